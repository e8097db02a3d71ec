package webpushsim

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/web"
)

const (
	maxMessage  = 4096 // bytes of a body
	maxBody     = 8 << 10
	maxTTL      = 2_592_000 // seconds, 30 days
	maxTopic    = 32
	messagePath = "/message/"
	otherPath   = "/elsewhere" // where redirects lead
)

// The paths for the browsers' side.
const (
	subscribePath   = "/subscribe"
	unsubscribePath = "/unsubscribe"
)

// The headers that matter to a push service.
const (
	fieldAuthorization = iota
	fieldEncoding
	fieldTTL
	fieldUrgency
	fieldTopic
)

var fields = []string{
	fieldAuthorization: "authorization", fieldEncoding: "content-encoding", fieldTTL: "ttl", fieldUrgency: "urgency",
	fieldTopic: "topic",
}

// session decides on the requests of one connection.
type session struct {
	s        *Simulator
	requests int

	authorization []byte // the one that was met last
	vapid         vapid
}

// Answer decides on a request and records it.
func (c *session) Answer(r *web.Request, body []byte, size int, now time.Time, tally *record.Tally) web.Answer {
	path, _, _ := strings.Cut(string(r.Path), "?")
	faults := c.s.faults.Load()
	switch id, isPush := strings.CutPrefix(path, pushPath); {
	case path == otherPath:
		tally[vRedirected]++
		return web.Answer{Status: http.StatusCreated}
	case isPush && faults.Everything != "":
		return c.everything(faults, id, body, tally)
	case isPush:
		return c.push(r, id, body, size, now, tally)
	case path == subscribePath || path == unsubscribePath:
		return c.s.browserSide(path, string(r.Method), body)
	}
	return failPath.answer()
}

// everything is the answer of an origin that is no push service.
func (c *session) everything(faults *Faults, id string, body []byte, tally *record.Tally) web.Answer {
	a, v := web.Answer{Delay: faults.Latency}, record.Accepted
	switch faults.Everything {
	case OriginSilent:
		a.Act, v = web.Silence, record.NeverAnswered
	case OriginRedirects:
		v = verdictOf(http.StatusTemporaryRedirect)
		a.Status, a.Fields = http.StatusTemporaryRedirect, []web.Field{{Name: "location", Value: c.s.origin + otherPath}}
	case OriginHTML:
		v = verdictOf(http.StatusOK)
		a.Status, a.Fields, a.Body = http.StatusOK, htmlFields, web.HTML(http.StatusOK)
	case OriginGarbage:
		v = verdictOf(http.StatusBadGateway)
		a.Status, a.Body = http.StatusBadGateway, []byte("\x00\xff{<")
	default:
		a.Status = http.StatusOK
	}
	tally[v]++
	c.record(&record.Incoming{Token: addressOf(c.s.origin + pushPath + id), Payload: body}, v)
	return a
}

func (c *session) record(n *record.Incoming, v record.Verdict) {
	if c.s.recorder.Keeps() {
		n.Transport = record.WebPush
		c.s.recorder.Record(n, v)
	}
}

// message is a request to push that was found good.
type message struct {
	to      *subscription
	plain   []byte
	ttl     uint32
	urgency string
	topic   []byte
}

// push decides on a message to a subscription.
func (c *session) push(r *web.Request, id string, body []byte, size int, now time.Time,
	tally *record.Tally) web.Answer {
	c.requests++
	faults := c.s.faults.Load()
	address := addressOf(c.s.origin + pushPath + id)
	m, refused, undecryptable := c.check(r, id, body, size, now)
	n := &record.Incoming{Token: address, Payload: m.plain, TTL: m.ttl, Urgency: m.urgency, Topic: string(m.topic)}
	if refused != nil {
		v := verdictOf(refused.status)
		if undecryptable {
			v = vUndecryptable
		}
		tally[v]++
		c.record(n, v)
		a := refused.answer()
		a.Delay = faults.Latency
		return a
	}
	a, v := c.effect(m.to.fault, address, faults, now)
	if a.Status == 0 {
		name := strconv.FormatUint(c.s.messages.Add(1), 36)
		n.ID = []byte(name)
		a.Status = http.StatusCreated
		a.Fields = []web.Field{{Name: "location", Value: c.s.origin + messagePath + name},
			{Name: "ttl", Value: strconv.Itoa(int(m.ttl))}}
	}
	tally[v]++
	c.record(n, v)
	if v == record.Accepted && faults.Offline {
		c.s.hold(record.Notification{
			Time: now, Transport: record.WebPush, Token: push.TextToken(Platform, string(address)), Topic: n.Topic,
			Payload: string(m.plain),
			Verdict: "accepted", MessageID: string(n.ID), Urgency: m.urgency, TTL: m.ttl,
		}, now)
	}
	return a
}

// effect is what a good message gets: Status is 0 where it is accepted as usual.
func (c *session) effect(fault Fault, address []byte, faults *Faults, now time.Time) (web.Answer, record.Verdict) {
	first := func() bool { return c.s.recorder.FirstTime(address) }
	e, retryAfter := web.EffectOf(fault, effects, len(rows)).This(first), web.MagicRetryAfter
	byFlag := e.Fault == web.NoFault
	if byFlag {
		e = faults.nth(c.requests)
		if e.Act == web.Answered {
			e.Row, retryAfter = int(faults.byChance()&0xff), faults.RetryAfter
		}
		if faults.DeadAfter > 0 && c.s.recorder.Since(address, now) >= faults.DeadAfter {
			e.Row = int(Gone - web.Rows)
		}
	}
	a, v := web.Answer{}, record.Accepted
	if e.Row != 0 {
		r := rows[e.Row-1]
		if status := r.failure.status; byFlag && retryAfter > 0 &&
			(status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) {
			r.retryAfter = true
		}
		a = r.answer(c.s.origin, retryAfter, now)
		switch {
		case r.dropped:
			v = vDropped
		case !r.accepts():
			v = verdictOf(a.Status)
		}
	}
	a.Act, a.Delay = e.Act, faults.Latency
	if e.Late {
		a.Delay += faults.lateDelay()
	}
	if of, ok := a.Act.Verdict(); ok {
		v = of
	}
	return a, v
}

// check looks at a message as a push service does, and then as the browser.
func (c *session) check(r *web.Request, id string, body []byte, size int, now time.Time) (m message, refused *failure,
	undecryptable bool) {
	if string(r.Method) != http.MethodPost {
		return m, &failMethod, false
	}
	to, err := c.s.find(id)
	if err != nil {
		return m, &failPath, false
	}
	if c.s.isGone(id) {
		return m, &failGone, false
	}
	m.to, m.urgency, m.topic = to, string(r.Get(fieldUrgency)), r.Get(fieldTopic)
	ttl, err := strconv.ParseUint(string(r.Get(fieldTTL)), 10, 31)
	switch {
	case err != nil:
		return m, &failTTL, false
	case m.urgency != "" && m.urgency != "very-low" && m.urgency != "low" && m.urgency != "normal" && m.urgency != "high":
		return m, &failUrgency, false
	case m.topic != nil && !isTopic(m.topic):
		return m, &failTopic, false
	}
	m.ttl = uint32(min(ttl, maxTTL))
	if header := r.Get(fieldAuthorization); !bytes.Equal(header, c.authorization) || header == nil {
		c.authorization, c.vapid = bytes.Clone(header), parseVAPID(string(header), c.s.origin, now)
	}
	switch {
	case c.vapid.refused != nil:
		return m, c.vapid.refused, false
	case c.vapid.expires.Before(now):
		return m, &failJWT, false
	case !to.isFor(c.vapid.key):
		return m, &failMismatch, false
	case size > maxMessage:
		return m, &failTooLarge, false
	case size == 0:
		return m, nil, false
	}
	if encoding := string(r.Get(fieldEncoding)); encoding != "aes128gcm" {
		f := failEncoding("content-encoding is " + strconv.Quote(encoding))
		return m, &f, true
	}
	if c.s.cfg.KeepEncrypted {
		m.plain = body
		return m, nil, false
	}
	b, err := c.s.browser(&to.raw)
	if err == nil {
		m.plain, err = b.decrypt(body)
	}
	if err != nil {
		f := failEncoding(err.Error())
		return m, &f, true
	}
	return m, nil, false
}

func isTopic(b []byte) bool {
	if len(b) == 0 || len(b) > maxTopic {
		return false
	}
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// browserSide plays the browser: POST /subscribe {"applicationServerKey": …, "fault": …} gives a subscription, and
// POST /unsubscribe {"endpoint": …} gives it up.
func (s *Simulator) browserSide(path, method string, body []byte) web.Answer {
	if method != http.MethodPost {
		return failMethod.answer()
	}
	var request struct {
		ApplicationServerKey, Fault, Endpoint string
	}
	wrong := func(err error) web.Answer {
		text, _ := json.Marshal(map[string]string{"error": err.Error()})
		return web.Answer{Status: http.StatusBadRequest, Fields: appleFields, Body: text}
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return wrong(err)
	}
	if path == unsubscribePath {
		if err := s.Unsubscribe(request.Endpoint); err != nil {
			return wrong(err)
		}
		return web.Answer{Status: http.StatusNoContent}
	}
	fault, err := ParseFault(request.Fault)
	if err != nil {
		return wrong(err)
	}
	subscription, err := s.Subscribe(request.ApplicationServerKey, fault)
	if err != nil {
		return wrong(err)
	}
	text, _ := json.Marshal(subscription)
	return web.Answer{Status: http.StatusCreated, Fields: appleFields, Body: text}
}
