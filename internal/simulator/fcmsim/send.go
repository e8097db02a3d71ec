package fcmsim

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/record"
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

// request is a request whose headers were read.
type request struct {
	endpoint    endpoint
	post        bool
	authorized  bool
	bearer      *bearer
	contentType string
}

// session decides on the messages of one connection. It remembers the last good one: the next differs in its target, most
// likely, and need not be read again.
type session struct {
	s        *Simulator
	requests int
	messages uint64 // of this session, for their names
	random   uint64

	prefix, suffix []byte // of the last good message, around its target
	last           message

	body, address []byte // of the answer, of the target
}

func (s *Simulator) newSession() *session { return &session{s: s, random: rand.Uint64()} }

// answer decides on a request and records it. The answer's body is valid until the next.
func (c *session) answer(r *request, body []byte, size int, now time.Time, tally *record.Tally) answer {
	switch {
	case r.endpoint == endpointToken && r.post:
		return c.s.tokenAnswer(r.contentType, body, now)
	case r.endpoint == endpointNone || !r.post:
		return htmlAnswer(http.StatusNotFound, vFrontEnd)
	}
	c.requests++
	a, m := c.decide(r, body, size, now)
	switch a.act {
	case actDrop:
		a.verdict = record.Dropped
	case actReset:
		a.verdict = record.ConnReset
	case actSilent:
		a.verdict = record.NeverAnswered
	case actRefuse:
		a.verdict = record.StreamRefused
	case actStreamError:
		a.verdict = record.StreamReset
	case actAnswer, actGoAway, actDead:
	}
	var id []byte
	if a.status == http.StatusOK && a.verdict == record.Accepted && a.body == nil {
		a.body, id = c.name(now)
	}
	tally[a.verdict]++
	if c.s.recorder.Keeps() {
		c.address = append(c.address[:0], m.target.address()...)
		c.s.recorder.Record(&record.Incoming{Transport: record.FCM, Token: c.address, Payload: body, ID: id}, a.verdict)
	}
	return a
}

// decide is the answer to a message: what is wrong with the request, or what its target or the faults ask for, or 200.
func (c *session) decide(r *request, body []byte, size int, now time.Time) (answer, message) {
	unauthorized := func(info, text string) (answer, message) {
		f := accessTokenFailure(info)
		if text != "" {
			f.message = text
		}
		return f.answer(vUnauthenticated), message{}
	}
	switch {
	case !r.authorized:
		return unauthorized("CREDENTIALS_MISSING", "Request is missing required authentication credential. "+
			"Expected OAuth 2 access token, login cookie or other valid authentication credential.")
	case r.bearer == nil:
		return unauthorized("ACCESS_TOKEN_TYPE_UNSUPPORTED", "")
	case !r.bearer.good(now):
		return unauthorized("ACCESS_TOKEN_EXPIRED", "")
	case r.endpoint == endpointOtherProject:
		return rowOf(NotFound).answer(target{}, 0, now), message{}
	case size > maxBody:
		return failure{code: 400, status: "INVALID_ARGUMENT", message: "Request payload size exceeds the limit."}.answer(vInvalidArgument), message{}
	}
	if media, _, _ := strings.Cut(r.contentType, ";"); strings.TrimSpace(media) != "application/json" {
		return malformed("", "Invalid content type %q: application/json is expected.", r.contentType).answer(vInvalidArgument), message{}
	}
	m, fault := c.read(body)
	switch {
	case fault != nil:
		return fault.answer(vInvalidArgument), m
	case m.validateOnly:
		return answer{status: 200, verdict: vValidated, body: []byte("{\n  \"name\": \"projects/" + ProjectID + "/messages/fake_message_id\"\n}\n")}, m
	}
	c.address = append(c.address[:0], m.target.address()...)
	return c.effect(c.address, m.target, now), m
}

// read is parseMessage, but for a message that is as the last one, its target aside.
func (c *session) read(body []byte) (message, *failure) {
	if n, k := len(c.prefix), len(c.suffix); n > 0 && len(body) > n+k && bytes.Equal(body[:n], c.prefix) && bytes.Equal(body[len(body)-k:], c.suffix) {
		if value := body[n : len(body)-k]; plain(value) && (c.last.target.kind == "token" || fidForm.Match(value)) && len(value) <= maxTokenLen {
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
	retryAfter := magicRetryAfter
	e := effect{}
	if fault := faultOf(address); fault != NoFault {
		e = effectOf(fault)
		switch {
		case e.act == actDead && c.s.recorder.FirstTime(address):
			e = effect{}
		case e.once && !c.s.recorder.FirstTime(address):
			e = effect{}
		}
	}
	if e.code == NoFault {
		e = f.byCount(c.requests)
		if e.act == actAnswer {
			e.row, retryAfter = f.byChance(), f.RetryAfter
		}
		if f.DeadAfter > 0 && c.s.outlived(address, f.DeadAfter, now) {
			e.row = Unregistered
		}
	}
	a := answer{status: http.StatusOK}
	if e.row != 0 {
		r := *rowOf(e.row)
		if e.code == NoFault && retryAfter > 0 && (a.status == 429 || r.failure.code == 429 || r.failure.code == 503) {
			r.retryAfter = true
		}
		a = r.answer(t, retryAfter, now)
	}
	a.act, a.late = e.act, e.late
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
