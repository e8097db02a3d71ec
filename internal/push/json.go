package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Fault is one thing that is wrong with what somebody sent us, and where it stands, as in body.to.tokens[3]. It never
// repeats the value: that may be a device token.
type Fault struct {
	Location string
	Message  string
	// TooLarge: what stands there is longer than a service takes, which is another answer than a mistake in it.
	TooLarge bool
}

func (f Fault) Error() string { return f.Location + ": " + f.Message }

// ErrNotJSON is wrapped by ParseJSON's errors.
var ErrNotJSON = errors.New("not JSON")

// JSON is one value within a well-formed document, without the space around it. Payloads and requests are read with it and
// not into Go values, because encoding/json takes an object's last duplicate silently, stops at the first fault, has no
// place for the order of keys, and rounds numbers. The syntax is left to encoding/json: the methods expect a well-formed value.
type JSON []byte

// ParseJSON checks that b is one JSON document in UTF-8 with nothing after it.
func ParseJSON(b []byte) (JSON, error) {
	if json.Valid(b) && utf8.Valid(b) {
		return trimSpace(b), nil
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%w: it is not in UTF-8", ErrNotJSON)
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(b, new(json.RawMessage)); errors.As(err, &syntax) {
		if int(syntax.Offset) >= len(b) && strings.Contains(syntax.Error(), "unexpected end") {
			return nil, fmt.Errorf("%w: it ends in the middle, after %d bytes", ErrNotJSON, len(b))
		}
		return nil, fmt.Errorf("%w: there is something wrong at byte %d", ErrNotJSON, syntax.Offset)
	}
	return nil, ErrNotJSON
}

func trimSpace(b []byte) JSON {
	start, end := skipSpace(b, 0), len(b)
	for end > start && isSpace(b[end-1]) {
		end--
	}
	return JSON(b[start:end])
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func skipSpace(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

// skipString returns the index after the string that starts at i.
func skipString(b []byte, i int) int {
	for {
		i += 1 + bytes.IndexByte(b[i+1:], '"')
		backslashes := 0
		for b[i-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return i + 1
		}
	}
}

// skipValue returns the index after the value that starts at i.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	default:
		for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && !isSpace(b[i]) {
			i++
		}
		return i
	}
}

// IsNull reports whether v is null.
func (v JSON) IsNull() bool { return v[0] == 'n' }

// IsObject reports whether v is an object.
func (v JSON) IsObject() bool { return v[0] == '{' }

// IsArray reports whether v is an array.
func (v JSON) IsArray() bool { return v[0] == '[' }

// IsString reports whether v is a string.
func (v JSON) IsString() bool { return v[0] == '"' }

// IsNumber reports whether v is a number.
func (v JSON) IsNumber() bool { return v[0] == '-' || v[0] >= '0' && v[0] <= '9' }

// IsBool reports whether v is true or false.
func (v JSON) IsBool() bool { return v[0] == 't' || v[0] == 'f' }

// String is the text of a string, and "" for anything else.
func (v JSON) String() string {
	if !v.IsString() {
		return ""
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	var s string
	_ = json.Unmarshal(v, &s) // it is well-formed
	return s
}

// Uint is a whole number from 0 to limit. 3.0 and 3e0 are refused as all but a few clients would.
func (v JSON) Uint(limit uint64) (uint64, bool) {
	if !v.IsNumber() {
		return 0, false
	}
	n, err := strconv.ParseUint(string(v), 10, 64)
	return n, err == nil && n <= limit
}

// Float is a number as near as a float64 comes to it.
func (v JSON) Float() (float64, bool) {
	if !v.IsNumber() {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v), 64)
	return f, err == nil
}

// Members goes through an object's members, in their order. The key is still a JSON string.
func (v JSON) Members() iter.Seq2[JSON, JSON] {
	return func(yield func(JSON, JSON) bool) {
		for i := skipSpace(v, 1); v[i] != '}'; {
			keyEnd := skipString(v, i)
			key := v[i:keyEnd]
			i = skipSpace(v, skipSpace(v, keyEnd)+1) // past the colon
			end := skipValue(v, i)
			if !yield(key, v[i:end]) {
				return
			}
			if i = skipSpace(v, end); v[i] == ',' {
				i = skipSpace(v, i+1)
			}
		}
	}
}

// Elements goes through an array's elements.
func (v JSON) Elements() iter.Seq2[int, JSON] {
	return func(yield func(int, JSON) bool) {
		n := 0
		for i := skipSpace(v, 1); v[i] != ']'; n++ {
			end := skipValue(v, i)
			if !yield(n, v[i:end]) {
				return
			}
			if i = skipSpace(v, end); v[i] == ',' {
				i = skipSpace(v, i+1)
			}
		}
	}
}

// Count is the number of an array's elements.
func (v JSON) Count() int {
	n := 0
	for range v.Elements() {
		n++
	}
	return n
}

// maxFaults is how many faults are told of one payload: it may have millions.
const maxFaults = 100

// DuplicateKeys reports each duplicate key of an object, at any depth below v, which is at location. What a
// duplicate means differs from reader to reader, and so a service might send what we did not check.
func (v JSON) DuplicateKeys(location string) []Fault {
	if skipUnique(v, 0) > 0 {
		return nil
	}
	d := walk{location: location, duplicates: true}
	d.value(v, 0, nil)
	return d.faults
}

// LoneSurrogates reports each string, key or value, at any depth below v, that escapes half of a surrogate pair. It is JSON
// by its grammar, but no Unicode (RFC 7493, 2.1), and every reader makes something else of it.
func (v JSON) LoneSurrogates(location string) []Fault {
	if !hasLoneSurrogate(v) {
		return nil
	}
	w := walk{location: location, surrogates: true}
	w.value(v, 0, nil)
	return w.faults
}

// hasLoneSurrogate looks through the escapes of a whole document or of one string.
func hasLoneSurrogate(b []byte) bool {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 || i+1 >= len(b) {
			return false
		}
		if b[i+1] != 'u' {
			b = b[i+2:]
			continue
		}
		unit := hexUnit(b[i+2:])
		b = b[i+6:]
		switch {
		case unit < 0xd800 || unit > 0xdfff:
		case unit < 0xdc00 && len(b) >= 6 && b[0] == '\\' && b[1] == 'u' && hexUnit(b[2:]) >= 0xdc00 && hexUnit(b[2:]) <= 0xdfff:
			b = b[6:]
		default:
			return true
		}
	}
}

// hexUnit is the number that the four digits at the start of b are.
func hexUnit(b []byte) (unit uint16) {
	for _, c := range b[:4] {
		switch {
		case c <= '9':
			c -= '0'
		case c <= 'F':
			c -= 'A' - 10
		default:
			c -= 'a' - 10
		}
		unit = unit<<4 | uint16(c)
	}
	return unit
}

// skipUnique is skipValue where no object in the value has a duplicate key, and 0 where one does. Like walk, it goes through a
// document once, whatever its depth, but it remembers no way and so allocates nothing.
func skipUnique(b []byte, i int) int {
	switch b[i] {
	case '[':
		for i = skipSpace(b, i+1); b[i] != ']'; {
			if i = skipUnique(b, i); i == 0 {
				return 0
			}
			if i = skipSpace(b, i); b[i] == ',' {
				i = skipSpace(b, i+1)
			}
		}
	case '{':
		var names nameSet
		for i = skipSpace(b, i+1); b[i] != '}'; {
			end := skipString(b, i)
			if !names.add(JSON(b[i:end]).Text()) {
				return 0
			}
			if i = skipUnique(b, skipSpace(b, skipSpace(b, end)+1)); i == 0 { // past the colon
				return 0
			}
			if i = skipSpace(b, i); b[i] == ',' {
				i = skipSpace(b, i+1)
			}
		}
	default:
		return skipValue(b, i)
	}
	return i + 1
}

// walk finds where in a document something is wrong: keys that one object has twice, or lone surrogates.
type walk struct {
	location               string
	duplicates, surrogates bool
	faults                 []Fault
}

// step leads from an array or an object to what is in it.
type step struct {
	from  *step
	depth int
	key   JSON // nil in an array
	index int
}

// value goes through the value that starts at i, to which from leads, and returns the index after it.
func (d *walk) value(b JSON, i int, from *step) int {
	at := step{from: from}
	if from != nil {
		at.depth = from.depth + 1
	}
	switch b[i] {
	case '[':
		for i = skipSpace(b, i+1); b[i] != ']'; at.index++ {
			if i = skipSpace(b, d.value(b, i, &at)); b[i] == ',' {
				i = skipSpace(b, i+1)
			}
		}
	case '{':
		var names nameSet
		for i = skipSpace(b, i+1); b[i] != '}'; {
			end := skipString(b, i)
			at.key = b[i:end]
			if d.duplicates && !names.add(at.key.Text()) {
				d.found(&at, "duplicate key")
			}
			if d.surrogates && hasLoneSurrogate(at.key) {
				d.found(&at, loneSurrogate)
			}
			i = skipSpace(b, skipSpace(b, end)+1) // past the colon
			if i = skipSpace(b, d.value(b, i, &at)); b[i] == ',' {
				i = skipSpace(b, i+1)
			}
		}
	default:
		end := skipValue(b, i)
		if d.surrogates && b[i] == '"' && hasLoneSurrogate(b[i:end]) {
			d.found(from, loneSurrogate)
		}
		return end
	}
	return i + 1
}

const loneSurrogate = "must be Unicode: it has half of a surrogate pair"

// found notes what is wrong there.
func (d *walk) found(at *step, message string) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, Fault{Location: at.location(d.location), Message: message})
	}
}

// location is where the steps lead from root. Of very many the first are told.
func (s *step) location(root string) string {
	const most = 64
	if s == nil {
		return root
	}
	at := s.from.location(root)
	switch {
	case s.depth > most:
		return at
	case s.depth == most:
		return at + "…"
	case s.key == nil:
		return at + "[" + strconv.Itoa(s.index) + "]"
	}
	return Member(at, s.key)
}

// nameSet is the names in an object.
type nameSet struct {
	few  [smallObject][]byte
	n    int
	many map[string]bool
}

// smallObject is the number of members up to which comparing each with each is cheaper than a map.
const smallObject = 16

// add reports whether the name is new.
func (s *nameSet) add(name []byte) bool {
	if s.many == nil {
		for _, other := range s.few[:s.n] {
			if bytes.Equal(name, other) {
				return false
			}
		}
		if s.n < smallObject {
			s.few[s.n] = name
			s.n++
			return true
		}
		s.many = make(map[string]bool, 4*smallObject)
		for _, other := range s.few {
			s.many[string(other)] = true
		}
	}
	if s.many[string(name)] {
		return false
	}
	s.many[string(name)] = true
	return true
}

// Text is a string's text, without a copy where it has no escapes; nil for anything else.
func (v JSON) Text() []byte {
	if !v.IsString() {
		return nil
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1]
	}
	return []byte(v.String())
}

// Is reports whether v is the string s.
func (v JSON) Is(s string) bool { return v.IsString() && string(v.Text()) == s }

// AppendCompact appends v without the space between its tokens. Everything else stays as it is: the order of keys, each
// digit of a number, each escape.
func (v JSON) AppendCompact(dst []byte) []byte {
	for i := 0; i < len(v); {
		switch {
		case v[i] == '"':
			end := skipString(v, i)
			dst = append(dst, v[i:end]...)
			i = end
		case isSpace(v[i]):
			i++
		default:
			dst = append(dst, v[i])
			i++
		}
	}
	return dst
}

// Inner is what is between an object's braces; nil for no object.
func (v JSON) Inner() JSON {
	if v == nil || !v.IsObject() {
		return nil
	}
	return trimSpace(v[1 : len(v)-1])
}

// Member is the location of an object's member. Keys that are not plain are quoted, and cut: they come from the caller and
// go back in an answer.
func Member(location string, key JSON) string {
	const longest = 64
	name := key.String()
	plain := name != "" && len(name) <= longest
	for i := 0; plain && i < len(name); i++ {
		c := name[i]
		plain = c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	if plain && !looksSecret(name) {
		return location + "." + name
	}
	if looksSecret(name) {
		return location + "[\"…\"]"
	}
	if len(name) > longest {
		cut := longest
		for !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = name[:cut] + "…"
	}
	return location + "[" + strconv.Quote(name) + "]"
}

// looksSecret reports whether a key might be a device token or an API key put in the wrong place.
func looksSecret(name string) bool {
	return len(name) >= 2*MinHexTokenLen || strings.HasPrefix(name, "lhspn_")
}
