package push

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

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

// LoneSurrogates reports each string, key or value, at any depth below v, that escapes half of a surrogate pair. It is
// JSON by its grammar, but no Unicode (RFC 7493, 2.1), and every reader makes something else of it.
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
		case unit < 0xdc00 && len(b) >= 6 && b[0] == '\\' && b[1] == 'u' &&
			hexUnit(b[2:]) >= 0xdc00 && hexUnit(b[2:]) <= 0xdfff:
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

// skipUnique is skipValue where no object in the value has a duplicate key, and 0 where one does. Like walk, it goes
// through a document once, whatever its depth, but it remembers no way and so allocates nothing.
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

// Member is the location of an object's member. Keys that are not plain are quoted, and cut: they come from the caller
// and go back in an answer.
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
