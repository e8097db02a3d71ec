package fcmsim

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/web"
)

// maxBody is how much of a request is read. FCM's own limit is far above that of its messages.
const maxBody = 64 << 10

// endpoint is what a path names.
type endpoint uint8

const (
	endpointNone endpoint = iota
	endpointSend
	endpointOtherProject
	endpointToken
)

// endpointOf reads a path.
func endpointOf(path []byte) endpoint {
	path, _, _ = bytes.Cut(path, []byte("?"))
	project, ok := bytes.CutPrefix(path, []byte("/v1/projects/"))
	if ok {
		project, ok = bytes.CutSuffix(project, []byte("/messages:send"))
	}
	switch {
	case ok && (string(project) == ProjectID || string(project) == ProjectNumber):
		return endpointSend
	case ok && !bytes.ContainsRune(project, '/'):
		return endpointOtherProject
	case string(path) == tokenPath || slices.Contains(otherTokenPaths, string(path)):
		return endpointToken
	}
	return endpointNone
}

// The headers that matter to FCM.
const (
	fieldAuthorization = iota
	fieldContentType
)

var fields = []string{fieldAuthorization: "authorization", fieldContentType: "content-type"}

// session decides on the messages of one connection. It remembers the last good one: the next differs in its target,
// most likely, and need not be read again.
type session struct {
	s        *Simulator
	requests int
	messages uint64 // of this session, for their names
	random   uint64

	authorization []byte // the one that was met last
	bearer        *bearer

	prefix, suffix []byte // of the last good message, around its target
	last           message

	body, address []byte // of the answer, of the target
}

func (s *Simulator) newSession() *session { return &session{s: s, random: rand.Uint64()} }

// Answer decides on a request and records it.
func (c *session) Answer(r *web.Request, body []byte, size int, now time.Time, tally *record.Tally) web.Answer {
	where, post := endpointOf(r.Path), string(r.Method) == http.MethodPost
	switch {
	case where == endpointToken && post:
		return c.s.tokenAnswer(string(r.Get(fieldContentType)), body, now).Answer
	case where == endpointNone || !post:
		return htmlAnswer(http.StatusNotFound, vFrontEnd).Answer
	}
	c.requests++
	a, m := c.decide(r, where, body, size, now)
	if v, ok := a.Act.Verdict(); ok {
		a.verdict = v
	}
	var id []byte
	if a.Status == http.StatusOK && a.verdict == record.Accepted {
		a.Body, id = c.name(now)
	}
	tally[a.verdict]++
	if c.s.recorder.Keeps() {
		c.address = append(c.address[:0], m.target.address()...)
		c.s.recorder.Record(&record.Incoming{Transport: record.FCM, Token: c.address, Payload: body, ID: id}, a.verdict)
	}
	faults := c.s.faults.Load()
	a.Delay = faults.Latency
	if a.late {
		a.Delay += faults.lateDelay()
	}
	return a.Answer
}

// authorize looks at an authorization header; the one that the connection used last is known at a glance.
func (c *session) authorize(value []byte) *bearer {
	if !bytes.Equal(c.authorization, value) {
		c.authorization, c.bearer = append(c.authorization[:0], value...), c.s.bearers.find(value)
	}
	return c.bearer
}

// decide is the answer to a message: what is wrong with the request, or what its target or the faults ask for, or 200.
func (c *session) decide(r *web.Request, where endpoint, body []byte, size int, now time.Time) (answer, message) {
	unauthorized := func(info, text string) (answer, message) {
		f := accessTokenFailure(info)
		if text != "" {
			f.message = text
		}
		return f.answer(vUnauthenticated), message{}
	}
	authorization := r.Get(fieldAuthorization)
	bearer := c.authorize(authorization)
	switch {
	case authorization == nil:
		return unauthorized("CREDENTIALS_MISSING", "Request is missing required authentication credential. "+
			"Expected OAuth 2 access token, login cookie or other valid authentication credential.")
	case bearer == nil:
		return unauthorized("ACCESS_TOKEN_TYPE_UNSUPPORTED", "")
	case !bearer.good(now):
		return unauthorized("ACCESS_TOKEN_EXPIRED", "")
	case where == endpointOtherProject:
		return rowOf(NotFound).answer(target{}, 0, now), message{}
	case size > maxBody:
		return failure{code: 400, status: "INVALID_ARGUMENT",
			message: "Request payload size exceeds the limit."}.answer(vInvalidArgument), message{}
	}
	// Google takes a body without a type for JSON; npm fcm-v1-http2 relies on that.
	contentType := r.Get(fieldContentType)
	if media, _, _ := bytes.Cut(contentType, []byte(";")); len(media) > 0 &&
		string(bytes.TrimSpace(media)) != "application/json" {
		return malformed("", "Invalid content type %q: application/json is expected.", contentType).answer(vInvalidArgument),
			message{}
	}
	m, fault := c.read(body)
	switch {
	case fault != nil:
		return fault.answer(vInvalidArgument), m
	case m.validateOnly:
		return jsonAnswer(200, vValidated, []byte("{\n  \"name\": \"projects/"+ProjectID+"/messages/fake_message_id\"\n}\n")),
			m
	}
	c.address = append(c.address[:0], m.target.address()...)
	return c.effect(c.address, m.target, now), m
}

// read is parseMessage, but for a message that is as the last one, its target aside.
func (c *session) read(body []byte) (message, *failure) {
	if n, k := len(c.prefix), len(c.suffix); n > 0 && len(body) > n+k && bytes.Equal(body[:n], c.prefix) &&
		bytes.Equal(body[len(body)-k:], c.suffix) {
		if value := body[n : len(body)-k]; plain(value) && (c.last.target.kind == "token" || fidForm.Match(value)) &&
			len(value) <= maxTokenLen {
			m := c.last
			m.target.value = string(value)
			return m, nil
		}
	}
	m, fault := parseMessage(body)
	c.prefix = c.prefix[:0]
	if fault == nil && !m.validateOnly && (m.target.kind == "token" || m.target.kind == "fid") {
		quoted := []byte(`"` + m.target.value + `"`)
		if i := bytes.Index(body, quoted); i >= 0 && plain([]byte(m.target.value)) && bytes.Count(body, quoted) == 1 {
			c.prefix, c.suffix = append(c.prefix, body[:i+1]...), append(c.suffix[:0], body[i+len(quoted)-1:]...)
			c.last = m
		}
	}
	return m, fault
}

// plain tells text that is the same in a JSON string.
func plain(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return len(b) > 0
}

// effect is what a good message gets.
func (c *session) effect(address []byte, t target, now time.Time) answer {
	f := c.s.faults.Load()
	retryAfter := web.MagicRetryAfter
	e := web.EffectOf(faultOf(address), effects, len(rows)).This(func() bool { return c.s.recorder.FirstTime(address) })
	byFlag := e.Fault == web.NoFault
	if byFlag {
		e = f.nth(c.requests)
		if e.Act == web.Answered {
			e.Row, retryAfter = int(f.byChance()&0xff), f.RetryAfter
		}
		if f.DeadAfter > 0 && c.s.recorder.Since(address, now) >= f.DeadAfter {
			e.Row = int(Unregistered & 0xff)
		}
	}
	a := jsonAnswer(http.StatusOK, record.Accepted, nil)
	if e.Row != 0 {
		r := rows[e.Row-1]
		if byFlag && retryAfter > 0 && (r.failure.code == 429 || r.failure.code == 503) {
			r.retryAfter = true
		}
		a = r.answer(t, retryAfter, now)
	}
	a.Act, a.late = e.Act, e.Late
	return a
}

// name makes the body of a 200 and, as a part of it, the message's id.
func (c *session) name(now time.Time) (body, id []byte) {
	c.messages++
	b := append(c.body[:0], "{\n  \"name\": \"projects/"+ProjectID+"/messages/"...)
	start := len(b)
	b = append(b, "0:"...)
	b = strconv.AppendInt(b, now.UnixMicro(), 10)
	b = append(b, '%')
	var number [8]byte
	for i, v := 0, c.random+c.messages; i < len(number); i, v = i+1, v>>8 {
		number[len(number)-1-i] = byte(v)
	}
	b = hex.AppendEncode(b, number[:])
	end := len(b)
	c.body = append(b, "\"\n}\n"...)
	return c.body, c.body[start:end]
}
