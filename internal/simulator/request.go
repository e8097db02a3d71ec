package simulator

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/lhspn/lhspn/internal/push"
)

const (
	devicePath    = "/3/device/"
	uuidLen       = 36
	maxCollapseID = 64
	maxTopic      = 255
)

// stream is one request and its answer. Streams are used again, with their buffers.
type stream struct {
	id            uint32
	complete      bool // the request is
	silent        bool // it will never be answered
	receiveWindow int64
	extraWindow   int64 // what WINDOW_UPDATEs added to the client's initial window

	request
	tokenBytes [push.MaxHexTokenLen]byte
	idBytes    [uuidLen]byte
	collapseID [maxCollapseID]byte
	payload    []byte // the DATA of all frames but the last, as long as it may be
	size       int    // of the DATA in payload, were it kept whole

	verdict   verdict
	timestamp int64 // with 410, in milliseconds
}

// request is what the headers said, already checked as far as one header alone can be.
type request struct {
	seen        uint16 // a bit for each header
	post        bool
	head        bool
	malformed   bool   // against HTTP/2's rules for fields (RFC 9113, 8.2 and 8.3)
	regular     bool   // a field that is no pseudo-header has come
	length      int64  // content-length, -1 where none was given
	pathReason  Reason // what is wrong with the path
	headReason  Reason // what is wrong with the first wrong header
	auth        *providerToken
	topic       string
	pushType    string
	tokenLen    uint8
	idLen       uint8
	collapseLen uint8
	priority    uint8
	expiration  uint32
}

func (st *stream) has(h header) bool { return st.seen&(1<<h) != 0 }

func (st *stream) fault(reason Reason) {
	if st.headReason == ReasonNone {
		st.headReason = reason
	}
}

// add keeps a part of the payload, up to the first byte that is too many.
func (st *stream) add(b []byte) {
	st.size += len(b)
	st.payload = append(st.payload, b[:min(len(b), push.MaxPayloadVoIP+1-len(st.payload))]...)
}

func (c *providerConn) newStream(id uint32) *stream {
	var st *stream
	if n := len(c.free); n > 0 {
		st = c.free[n-1]
		c.free = c.free[:n-1]
	} else {
		st = &stream{}
	}
	st.id, st.complete, st.silent = id, false, false
	// Until our SETTINGS are acknowledged the client may go by the protocol's default.
	st.receiveWindow, st.extraWindow = max(int64(c.s.cfg.StreamWindow), defaultWindow), 0
	if c.ackedLimit != unlimited {
		st.receiveWindow = int64(c.s.cfg.StreamWindow)
	}
	st.request = request{priority: 10, pathReason: ReasonBadPath, length: -1}
	st.payload, st.size = st.payload[:0], 0
	st.timestamp = 0
	return st
}

// topicCache keeps the topic that was met last as a string.
type topicCache string

func (t *topicCache) intern(b []byte) string {
	if string(b) != string(*t) {
		*t = topicCache(b)
	}
	return string(*t)
}

// authorization is the provider token of a connection.
type authorization struct {
	text  []byte // of the header that was met last
	token *providerToken
	first *providerToken // the first good one: the connection is bound to its team and key
}

// header takes one header of the stream that is being opened.
func (c *providerConn) header(h header, name, value []byte) {
	st := c.current
	if len(name) > 0 && name[0] == ':' {
		if st.regular || h == headerOther && string(name) != ":authority" || h != headerOther && st.has(h) {
			st.malformed = true // after the others, unknown, or twice
			return
		}
	} else {
		st.regular = true
	}
	if h == headerOther {
		st.other(name, value)
		return
	}
	if st.has(h) {
		st.fault(ReasonDuplicateHeaders)
		return
	}
	st.seen |= 1 << h
	switch h {
	case headerMethod:
		st.post, st.head = string(value) == "POST", string(value) == "HEAD"
	case headerPath:
		st.pathReason = st.parsePath(value)
	case headerAuthorization:
		st.auth = c.authorize(value)
	case headerID:
		if !isUUID(value) {
			st.fault(ReasonBadMessageID)
			return
		}
		st.idLen = uint8(copy(st.idBytes[:], value)) // a UUID
	case headerExpiration:
		n, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			st.fault(ReasonBadExpirationDate)
		}
		st.expiration = uint32(min(n, 1<<32-1))
	case headerPriority:
		switch string(value) {
		case "10":
			st.priority = 10
		case "5":
			st.priority = 5
		case "1":
			st.priority = 1
		default:
			st.fault(ReasonBadPriority)
		}
	case headerTopic:
		if !isTopic(value) {
			st.fault(ReasonBadTopic)
		}
		st.topic = c.topics.intern(value)
	case headerCollapseID:
		if len(value) > maxCollapseID {
			st.fault(ReasonBadCollapseID)
		}
		st.collapseLen = uint8(copy(st.collapseID[:], value)) // at most 64
	case headerPushType:
		if st.pushType = pushType(value); st.pushType == "" {
			st.fault(ReasonInvalidPushType)
		}
	case headerScheme, headerOther: // the latter returned above
	}
}

// other takes a field that is not APNs', of which only HTTP/2's own rules are checked.
func (st *stream) other(name, value []byte) {
	for _, c := range name {
		if c >= 'A' && c <= 'Z' || c <= ' ' || c >= 0x7f {
			st.malformed = true
		}
	}
	switch string(name) {
	case "":
		st.malformed = true
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		st.malformed = true
	case "te":
		st.malformed = st.malformed || string(value) != "trailers"
	case "content-length":
		n, err := strconv.ParseInt(string(value), 10, 63)
		if err != nil || n < 0 || st.length >= 0 && st.length != n {
			st.malformed = true
		}
		st.length = n
	}
}

func (st *stream) parsePath(path []byte) Reason {
	hexToken, ok := bytes.CutPrefix(path, []byte(devicePath))
	switch {
	case !ok:
		return ReasonBadPath
	case len(hexToken) == 0:
		return ReasonMissingDeviceToken
	case len(hexToken)%2 != 0 || len(hexToken) < 2*push.MinHexTokenLen || len(hexToken) > 2*push.MaxHexTokenLen:
		return ReasonBadDeviceToken
	}
	for i := 0; i < len(hexToken); i += 2 {
		hi, lo := hexDigit[hexToken[i]], hexDigit[hexToken[i+1]]
		if hi|lo > 15 {
			return ReasonBadDeviceToken
		}
		st.tokenBytes[i/2] = hi<<4 | lo
	}
	st.tokenLen = uint8(len(hexToken) / 2) // at most 100
	return ReasonNone
}

// hexDigit is the value of a hexadecimal digit, 255 for every other byte.
var hexDigit = func() (table [256]uint8) {
	for i := range table {
		table[i] = 255
	}
	for i, c := range []byte("0123456789abcdef") {
		table[c] = uint8(i)
	}
	for i, c := range []byte("ABCDEF") {
		table[c] = uint8(10 + i)
	}
	return table
}()

func isUUID(b []byte) bool {
	if len(b) != uuidLen {
		return false
	}
	for i, c := range b {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if hexDigit[c] > 15 {
			return false
		}
	}
	return true
}

func isTopic(b []byte) bool {
	if len(b) == 0 || len(b) > maxTopic {
		return false
	}
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// pushType is the push type without an allocation, empty where it is none.
func pushType(b []byte) string {
	switch push.Type(b) {
	case push.TypeAlert:
		return string(push.TypeAlert)
	case push.TypeBackground:
		return string(push.TypeBackground)
	case push.TypeLocation:
		return string(push.TypeLocation)
	case push.TypeVoIP:
		return string(push.TypeVoIP)
	case push.TypeComplication:
		return string(push.TypeComplication)
	case push.TypeFileProvider:
		return string(push.TypeFileProvider)
	case push.TypeMDM:
		return string(push.TypeMDM)
	case push.TypeLiveActivity:
		return string(push.TypeLiveActivity)
	case push.TypePushToTalk:
		return string(push.TypePushToTalk)
	case push.TypeWidgets:
		return string(push.TypeWidgets)
	case push.TypeControls:
		return string(push.TypeControls)
	}
	return ""
}

// authorize looks at a provider token; the one that the connection used last is known at a glance.
func (c *providerConn) authorize(value []byte) *providerToken {
	if bytes.Equal(value, c.auth.text) {
		return c.auth.token
	}
	const scheme = "bearer "
	if len(value) < len(scheme) || !strings.EqualFold(string(value[:len(scheme)]), scheme) {
		return &providerToken{reason: ReasonInvalidProviderToken}
	}
	keyID := ""
	if c.s.cfg.ProviderTokenKey == nil && c.s.tokenKey != nil {
		keyID = ProviderKeyID
	}
	token := c.s.tokens.lookUp(string(value[len(scheme):]), c.s.tokenKey, keyID, c.s.cfg.ProviderTokenInterval, c.now)
	if token.reason != ReasonTooManyProviderTokenUpdates {
		c.auth.text, c.auth.token = append(c.auth.text[:0], value...), token
	}
	return token
}

// check validates a request as APNs does and says what is wrong with it.
func (c *providerConn) check(st *stream, payload []byte) Reason {
	switch {
	case !st.post:
		return ReasonMethodNotAllowed
	case st.pathReason != ReasonNone:
		return st.pathReason
	}
	if reason := c.checkAuthorization(st); reason != ReasonNone {
		return reason
	}
	if st.headReason != ReasonNone {
		return st.headReason
	}
	switch {
	case st.has(headerTopic):
		// Credentials are for their topics and what is derived from them.
		if !c.allows(st) {
			return ReasonTopicDisallowed
		}
	case st.auth != nil || c.certTopic == "":
		return ReasonMissingTopic
	default:
		st.topic = c.certTopic
	}
	if reason := checkType(st); reason != ReasonNone {
		return reason
	}
	limit := push.MaxPayload
	if st.pushType == string(push.TypeVoIP) {
		limit = push.MaxPayloadVoIP
	}
	switch size := max(st.size, len(payload)); {
	case size == 0:
		return ReasonPayloadEmpty
	case size > limit:
		return ReasonPayloadTooLarge
	case st.pushType != string(push.TypeMDM) && !c.isPayload(payload):
		return ReasonPayloadEmpty
	}
	return ReasonNone
}

// allows reports whether the credentials may send to the request's topic.
func (c *providerConn) allows(st *stream) bool {
	is := func(topic string) bool {
		return st.topic == topic || strings.HasPrefix(st.topic, topic) && st.topic[len(topic)] == '.'
	}
	if st.auth == nil {
		return c.certTopic == "" || is(c.certTopic)
	}
	return len(c.s.cfg.Topics) == 0 || slices.ContainsFunc(c.s.cfg.Topics, is)
}

// typeSuffixes are what the topics of the push types end with.
var typeSuffixes = map[string]string{
	string(push.TypeVoIP): ".voip", string(push.TypeComplication): ".complication", string(push.TypeFileProvider): ".pushkit.fileprovider",
	string(push.TypeLocation): ".location-query", string(push.TypeLiveActivity): ".push-type.liveactivity",
	string(push.TypePushToTalk): ".voip-ptt", string(push.TypeWidgets): ".push-type.widgets", string(push.TypeControls): ".push-type.controls",
}

// checkType checks what a push type asks of the other headers.
func checkType(st *stream) Reason {
	switch st.pushType {
	case "", string(push.TypeAlert), string(push.TypeMDM):
		return ReasonNone
	case string(push.TypeBackground):
		if st.priority != 5 {
			return ReasonBadPriority
		}
		return ReasonNone
	}
	if !strings.HasSuffix(st.topic, typeSuffixes[st.pushType]) {
		return ReasonBadTopic
	}
	if st.pushType == string(push.TypeLiveActivity) && st.priority == 1 {
		return ReasonBadPriority
	}
	return ReasonNone
}

// isPayload reports whether the payload is an object with aps. Apple documents no reason of its own for another; a payload is
// looked at again only when it differs from the one before.
func (c *providerConn) isPayload(payload []byte) bool {
	if len(payload) > 0 && bytes.Equal(payload, c.lastPayload) {
		return true
	}
	var members struct {
		APS json.RawMessage `json:"aps"`
	}
	if json.Unmarshal(payload, &members) != nil || len(members.APS) == 0 || members.APS[0] != '{' {
		return false
	}
	c.lastPayload = append(c.lastPayload[:0], payload...)
	return true
}

func (c *providerConn) checkAuthorization(st *stream) Reason {
	switch token := st.auth; {
	case token == nil && !c.hasCert:
		return ReasonMissingProviderToken
	case token == nil:
		return ReasonNone
	case token.reason != ReasonNone:
		return token.reason
	case token.expired(c.now):
		return ReasonExpiredProviderToken
	case c.auth.first == nil:
		c.auth.first = token
	case token.team != c.auth.first.team:
		return ReasonInvalidProviderToken
	case token.key != c.auth.first.key:
		return ReasonUnrelatedKeyIDInToken
	}
	return ReasonNone
}

// effectFor is what the faults ask for on this request: by count, by chance, or by its token.
func (c *providerConn) effectFor(token []byte) effect {
	f := c.faults
	if e := c.s.effectOn(token); e.code != NoFault {
		return e
	}
	nth := func(n int) bool { return n > 0 && c.requests%n == 0 }
	switch {
	case nth(f.RefuseEvery):
		return effect{act: actRefuse}
	case nth(f.NeverAnswerEvery):
		return effect{act: actSilent}
	case nth(f.SlowEvery):
		return effect{late: true}
	}
	if f.BadTokenPercent+f.UnregisteredPercent+f.TooManyRequestsPercent+f.InternalErrorPercent+f.ServiceUnavailablePercent == 0 {
		return effect{}
	}
	p := rand.Float64() * 100
	for _, share := range [...]struct {
		percent float64
		act     act
		reason  Reason
	}{
		{f.BadTokenPercent, actReject, ReasonBadDeviceToken},
		{f.UnregisteredPercent, actUnregistered, ReasonUnregistered},
		{f.TooManyRequestsPercent, actReject, ReasonTooManyRequests},
		{f.InternalErrorPercent, actReject, ReasonInternalServerError},
		{f.ServiceUnavailablePercent, actReject, ReasonServiceUnavailable},
	} {
		if p -= share.percent; p < 0 {
			return effect{act: share.act, reason: share.reason}
		}
	}
	return effect{}
}

// request decides on a complete request, records it, and answers it now, later or never.
func (c *providerConn) request(ctx context.Context, st *stream, payload []byte) error {
	st.complete = true
	if got := int64(max(st.size, len(payload))); st.length >= 0 && st.length != got {
		c.out = appendReset(c.out, st.id, http2.ErrCodeProtocol) // RFC 9113, 8.1.1
		c.drop(st)
		return nil
	}
	c.requests++
	token := st.tokenBytes[:st.tokenLen]
	var e effect
	reason := c.check(st, payload)
	if reason == ReasonNone {
		e = c.effectFor(token)
	}
	st.verdict = verdict(reason)
	switch e.act {
	case actReject:
		st.verdict = verdict(e.reason) // ReasonNone for a fault of the binary protocol alone
	case actUnregistered:
		st.verdict, st.timestamp = verdict(e.reason), timeOf(token, c.now).UnixMilli()
	case actDrop:
		st.verdict = dropped
	case actReset:
		st.verdict = connReset
	case actSilent:
		st.verdict = neverAnswered
	case actRefuse:
		st.verdict = streamRefused
	case actStreamError:
		st.verdict = streamReset
	case actAccept, actShutdown: // the latter means nothing here
	}
	c.recordRequest(st, payload)

	switch st.verdict {
	case dropped, connReset:
		c.s.recorder.add(&c.tally)
		if err := c.flush(); err != nil {
			return err
		}
		if st.verdict == connReset {
			reset(c.raw)
		} else {
			_ = c.raw.Close()
		}
		return errClosed
	case neverAnswered:
		st.silent = true
		c.silent++
		c.keep(st)
	case streamRefused:
		c.out = appendReset(c.out, st.id, http2.ErrCodeRefusedStream)
		c.drop(st)
	case streamReset:
		c.out = appendReset(c.out, st.id, http2.ErrCodeInternal)
		c.drop(st)
	default:
		delay := c.faults.Latency
		if e.late {
			delay += c.faults.lateDelay()
		}
		if st.verdict == accepted {
			c.followSuccess()
		}
		if delay > 0 {
			c.delay(ctx, st, c.now.Add(delay))
		} else {
			c.answer(st)
		}
	}
	if n := c.faults.OneStreamAfter; n > 0 && c.requests == n {
		c.sendLimit(1)
	}
	if n := c.faults.GoAwayEvery; e.act == actShutdown || n > 0 && c.requests%n == 0 {
		c.goAway(ReasonShutdown)
	}
	return nil
}

// followSuccess allows all streams once a request has succeeded after the client knew that it had only one.
func (c *providerConn) followSuccess() {
	switch {
	case len(c.limits) == 0:
		c.raised = true
		c.sendLimit(c.s.cfg.MaxConcurrentStreams)
	case !c.raised: // the first limit of all: nothing was sent in the knowledge of it, but its purpose is served
		c.raised, c.raiseOnAck = true, true
	}
}

func (c *providerConn) recordRequest(st *stream, payload []byte) {
	c.tally[st.verdict]++
	r := c.s.recorder
	if r.level == RecordTotals && !r.trackIDs {
		return
	}
	r.record(&incoming{
		transport: HTTP2, token: st.tokenBytes[:st.tokenLen], topic: st.topic, payload: payload, apnsID: st.idBytes[:st.idLen],
		pushType: st.pushType, collapseID: st.collapseID[:st.collapseLen], expiration: st.expiration, priority: st.priority,
	}, st.verdict)
}

// okHead is the start of every accepted answer's header block: ":status: 200" from the static table, and "apns-id" as a
// literal that goes into no table, so that answers need no encoder with a state.
var okHead = []byte("\x88\x00\x07apns-id\x24")

// answer sends the answer of a stream and ends it.
func (c *providerConn) answer(st *stream) {
	if st.idLen == 0 {
		newUUID(st.idBytes[:])
	}
	update := c.sizeUpdate
	c.sizeUpdate = nil
	if st.verdict == accepted {
		start := len(c.out)
		c.out = appendFrameHead(c.out, len(update)+len(okHead)+uuidLen, http2.FrameHeaders,
			http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, st.id)
		c.out = append(append(c.out, update...), okHead...)
		c.out = append(c.out, st.idBytes[:]...)
		if c.s.cfg.Sandbox {
			c.out = appendUniqueID(c.out)
			putLength(c.out[start:], len(c.out)-start-frameHead)
		}
		c.drop(st)
		return
	}
	reason := Reason(st.verdict)
	status := strconv.Itoa(statusOf(reason))
	// ":status" by the name's place in the static table, as a literal; the rest as in okHead.
	block := append(append(update, 0x08, byte(len(status))), status...)
	block = append(append(block, okHead[1:]...), st.idBytes[:]...)
	if c.s.cfg.Sandbox {
		block = appendUniqueID(block)
	}
	if st.head { // the answer to HEAD has no body (RFC 9110, 9.3.2)
		c.out = appendFrameHead(c.out, len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, st.id)
		c.out = append(c.out, block...)
		c.drop(st)
		return
	}
	c.out = appendFrameHead(c.out, len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders, st.id)
	c.out = append(c.out, block...)
	body := append([]byte(`{"reason":"`), reason.String()...)
	body = append(body, '"')
	if st.timestamp != 0 {
		body = strconv.AppendInt(append(body, `,"timestamp":`...), st.timestamp, 10)
	}
	d := blockedData{id: st.id, extra: st.extraWindow, body: append(body, '}')}
	if !c.sendBody(d) {
		c.blocked = append(c.blocked, d)
	}
	c.drop(st)
}

// putLength sets the length of the frame that begins with head.
func putLength(head []byte, n int) { head[0], head[1], head[2] = byte(n>>16), byte(n>>8), byte(n) }

// appendUniqueID appends the field that only the development environment has, by which the Push Notifications Console finds a
// notification.
func appendUniqueID(block []byte) []byte {
	block = append(block, "\x00\x0eapns-unique-id\x24"...)
	var id [uuidLen]byte
	newUUID(id[:])
	return append(block, id[:]...)
}

// newUUID makes the apns-id of a request that brought none: random, in capitals as Apple's.
func newUUID(dst []byte) {
	const digits = "0123456789ABCDEF"
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], rand.Uint64())
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	at := 0
	for i, v := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst[at] = '-'
			at++
		}
		dst[at], dst[at+1] = digits[v>>4], digits[v&15]
		at += 2
	}
}

// timeOf is the time that a magic token carries, or now.
func timeOf(token []byte, now time.Time) time.Time {
	if faultOf(token) == NoFault {
		return now
	}
	if ms := binary.BigEndian.Uint64(token[8:]); ms != 0 {
		return time.UnixMilli(int64(ms))
	}
	return now
}
