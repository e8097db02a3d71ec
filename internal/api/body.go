package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/lhspn/lhspn/internal/push"
)

// Bodies are read here and not by huma, for all routes alike: huma takes duplicate keys, rounds the numbers it checks,
// and costs too much for the two routes that must bear the load. The documented types are checked against these readers
// by a test.

// maxPooled is the capacity up to which a buffer is kept for the next request.
const maxPooled = 64 << 10

var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 4<<10)) }}

// readBody calls use with the request's body, which may be kept no longer than the call. A body that is missing is nil.
func (x *exchange) readBody(r *http.Request, limit int64, use func(push.JSON) error) error {
	if r.ContentLength > limit {
		return x.bodyTooLarge(r, limit)
	}
	buf := buffers.Get().(*bytes.Buffer) // nothing else is put there
	defer func() {
		if buf.Cap() <= maxPooled {
			buf.Reset()
			buffers.Put(buf)
		}
	}()
	// The buffer grows with what comes: what is announced costs nobody anything.
	n, err := buf.ReadFrom(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return bodyError(err)
	}
	if n > limit {
		return x.bodyTooLarge(r, limit)
	}
	if n > 0 {
		if err := checkMediaType(r.Header); err != nil {
			return err
		}
	}
	// Only now: a body that comes slowly takes nobody's place.
	in, err := x.enter(r, buf.Len())
	if err != nil {
		return err
	}
	defer in.leave()
	if n == 0 {
		return use(nil)
	}
	body, err := push.ParseJSON(buf.Bytes())
	if err != nil {
		return explain(err, "%s.", capital(err.Error()))
	}
	if faults := body.LoneSurrogates("body"); faults != nil {
		return push.Faults(faults)
	}
	return use(body)
}

// entered is a request that is in, and has to leave.
type entered struct {
	gate   *gate
	turn   turn
	weight int
}

func (e entered) leave() { e.gate.leave(e.turn, e.weight) }

// enter waits for the turn of a request that may change something, with so long a body.
func (x *exchange) enter(r *http.Request, length int) (entered, error) {
	e := entered{x.api.gate, turn{anybody: true}, x.api.gate.weigh(length)} // those without a key have a turn together
	if x.who != nil {
		e.turn = turn{x.who.app.Name, x.who.key.Scope == ScopeRegister}
	}
	if err := e.gate.enter(r.Context(), e.turn, e.weight); err != nil {
		return e, err
	}
	if x.who != nil { // the body may have come long after the header, and its turn later still
		if err := x.api.stillTaken(x.who); err != nil {
			e.leave()
			return e, err
		}
	}
	return e, nil
}

// maxDiscarded is how much of a body that is too large is read, and thrown away, for the sake of the answer.
const maxDiscarded = 64 << 20

// bodyTooLarge refuses the body. Most clients write all of it before they read: the reset of a connection that was
// closed before would keep the answer from them. One that asks first is not told to go on.
func (x *exchange) bodyTooLarge(r *http.Request, limit int64) error {
	if r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, r.Body, maxDiscarded)
	}
	x.Header().Set("Connection", "close") // rather than read the rest
	return explain(push.ErrTooLarge, "The body may have at most %d bytes.", limit)
}

// bodyError tells a body that ended early from one that was too slow.
func bodyError(err error) error {
	if timeout := interface{ Timeout() bool }(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return explain(errIncomplete, "The body came too slowly.")
	}
	return fmt.Errorf("%w: %w", errIncomplete, err)
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// checkMediaType takes JSON, and a missing Content-Type for it.
func checkMediaType(h http.Header) error {
	if err := checkEncoding(h); err != nil {
		return err
	}
	given := h["Content-Type"]
	if len(given) == 0 || given[0] == "" || given[0] == "application/json" {
		return nil
	}
	media, params, _ := mime.ParseMediaType(given[0]) // no media where it is none
	if media != "application/json" && (!strings.HasPrefix(media, "application/") || !strings.HasSuffix(media, "+json")) {
		return explain(errMediaType, "The body must be application/json.")
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return explain(errMediaType, "The body must be in UTF-8.")
	}
	return nil
}

func checkEncoding(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return explain(errMediaType, "A compressed body is not taken.")
	}
	return nil
}

// reader gathers what is wrong with a document while it is taken apart.
type reader struct {
	faults []push.Fault
}

func (rd *reader) fault(at, message string) {
	rd.faults = append(rd.faults, push.Fault{Location: at, Message: message})
}

// full says that there are more faults than an answer lists, and so no use in looking for others: a request that has 8
// MiB of them would need a hundred times as much memory.
func (rd *reader) full() bool { return len(rd.faults) > maxFaults }

// err is nil where nothing was wrong.
func (rd *reader) err() error {
	if len(rd.faults) == 0 {
		return nil
	}
	return push.Faults(rd.faults)
}

// maxMembers is the number of members up to which object looks for duplicates; no object that it reads has as many
// fields.
const maxMembers = 32

// object goes through v's members, each of which take must know.
func (rd *reader) object(at string, v push.JSON, take func(name string, v push.JSON) bool) {
	if v == nil || !v.IsObject() {
		rd.fault(at, "must be an object")
		return
	}
	var seen [maxMembers][]byte
	n := 0
	for key, value := range v.Members() {
		name := key.Text()
		for _, other := range seen[:n] {
			if bytes.Equal(name, other) {
				rd.fault(push.Member(at, key), "duplicate key")
				break
			}
		}
		if n == maxMembers {
			rd.fault(at, "has too many members")
			return
		}
		seen[n] = name
		n++
		if !take(string(name), value) {
			rd.fault(push.Member(at, key), "is not a known field")
		}
	}
}

// readText is a string of at most limit bytes, or what is wrong with it. It knows no location, so that none is put
// together for what is right.
func readText(v push.JSON, limit int) (s, wrong string) {
	if !v.IsString() {
		return "", "must be a string"
	}
	s = v.String()
	if len(s) > limit {
		return "", "must have at most " + strconv.Itoa(limit) + " bytes, and has " + strconv.Itoa(len(s))
	}
	if wrong := checkText(s); wrong != "" {
		return "", wrong
	}
	return s, ""
}

// checkText refuses control characters: nobody means them in a name, they cannot be seen in a list or a log, and some
// databases and tools end a string at a NUL.
func checkText(s string) (wrong string) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f:
			return "must not contain control characters"
		case c >= utf8.RuneSelf:
			return checkUnicode(s[i:])
		}
	}
	return ""
}

func checkUnicode(s string) (wrong string) {
	switch {
	case !utf8.ValidString(s):
		return "must be in UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "must not contain control characters"
	}
	return ""
}

// texts is an array of least to most strings that are not empty.
func (rd *reader) texts(at string, v push.JSON, least, most, limit int) []string {
	if !v.IsArray() {
		rd.fault(at, "must be an array of strings")
		return nil
	}
	n := v.Count()
	if n < least || n > most {
		rd.fault(at, "must have "+strconv.Itoa(least)+" to "+strconv.Itoa(most)+" elements, and has "+strconv.Itoa(n))
		return nil
	}
	list := make([]string, 0, n)
	for i, element := range v.Elements() {
		s, wrong := readText(element, limit)
		if s == "" && wrong == "" {
			wrong = "must not be empty"
		}
		if wrong != "" {
			rd.fault(at+"["+strconv.Itoa(i)+"]", wrong)
			if rd.full() {
				return nil
			}
		}
		list = append(list, s)
	}
	return list
}

// distinct drops repetitions and keeps the order.
func distinct[T ~string](list []T) []T {
	if len(list) < 2 {
		return list
	}
	kept := list[:0]
	seen := make(map[T]bool, len(list))
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			kept = append(kept, s)
		}
	}
	return kept
}

func (rd *reader) tags(at string, v push.JSON, least int) []string {
	return distinct(rd.texts(at, v, least, push.MaxTags, push.MaxTag))
}

func (rd *reader) uint32(at string, v push.JSON, least uint32) uint32 {
	n, ok := v.Uint(1<<32 - 1)
	if !ok || n < uint64(least) {
		rd.fault(at, "must be a whole number from "+strconv.Itoa(int(least))+" to 4294967295")
		return 0
	}
	return uint32(n)
}

func (rd *reader) environment(at string, v push.JSON, of []Platform) push.Route {
	route := push.Route(v.Text())
	for _, p := range of {
		if slices.Contains(p.Routes(), route) {
			return route
		}
	}
	rd.fault(at, "must be one of: "+routeNames(of))
	return ""
}
