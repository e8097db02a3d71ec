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

// Fault is one thing that is wrong with what somebody sent us, and where it is, as in body.to.tokens[3]. It never
// repeats the value: that may be a device token.
type Fault struct {
	Location string
	Message  string
	// TooLarge: what is there is longer than a service takes, which is another answer than a mistake in it.
	TooLarge bool
}

func (f Fault) Error() string { return f.Location + ": " + f.Message }

// Faults are what is wrong with something that was given, as an error: an ErrInvalid.
type Faults []Fault

// ErrInvalid is what Faults unwrap to.
var ErrInvalid = errors.New("invalid")

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap is ErrInvalid.
func (f Faults) Unwrap() error { return ErrInvalid }

// ErrNotJSON is wrapped by ParseJSON's errors.
var ErrNotJSON = errors.New("not JSON")

// JSON is one value within a well-formed document, without the space around it. Payloads and requests are read with it
// and not into Go values, because encoding/json takes an object's last duplicate silently, stops at the first fault,
// has no place for the order of keys, and rounds numbers. The syntax is left to encoding/json: the methods expect a
// well-formed value.
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

// Get is the value of an object's member; nil where it has none of the name, or v is nil or no object.
func (v JSON) Get(name string) JSON {
	if v == nil || !v.IsObject() {
		return nil
	}
	for key, value := range v.Members() {
		if key.Is(name) {
			return value
		}
	}
	return nil
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

// CompactLen is the length of what AppendCompact appends.
func (v JSON) CompactLen() (n int) {
	for i := 0; i < len(v); {
		end := i + 1
		switch {
		case isSpace(v[i]):
			n--
		case v[i] == '"':
			end = skipString(v, i)
		}
		n += end - i
		i = end
	}
	return n
}

// Inner is what is between an object's braces; nil for no object.
func (v JSON) Inner() JSON {
	if v == nil || !v.IsObject() {
		return nil
	}
	return trimSpace(v[1 : len(v)-1])
}
