package fcmsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
)

type jsonKind uint8

const (
	kindNull jsonKind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// value is a JSON value that remembers the order of its members, which errors of Google's API count by.
type value struct {
	kind    jsonKind
	text    string   // of a string, decoded; of a number or boolean, as it was written
	members []member // of an object, or, without keys, of an array
}

type member struct {
	key   string
	value *value
}

// get is an object's member by its lowerCamelCase name, nil where there is none or it is null.
func (v *value) get(name string) *value {
	for _, m := range v.list() {
		if m.value.kind != kindNull && (m.key == name || camel(m.key) == name) {
			return m.value
		}
	}
	return nil
}

func (v *value) list() []member {
	if v == nil {
		return nil
	}
	return v.members
}

func (v *value) isTrue() bool { return v != nil && v.kind == kindBool && v.text == "true" }

// size is the number of bytes of all text within.
func (v *value) size() int {
	n := len(v.text)
	for _, m := range v.members {
		n += len(m.key) + m.value.size()
	}
	return n
}

// String is the value as Google's errors show it.
func (v *value) String() string {
	switch v.kind {
	case kindString:
		return strconv.Quote(v.text)
	case kindArray:
		return "[...]"
	case kindObject:
		return "{...}"
	case kindNull:
		return "null"
	case kindBool, kindNumber:
	}
	return v.text
}

// maxDepth is how deep values may be nested.
const maxDepth = 100

// parseJSON reads one JSON value and nothing after it.
func parseJSON(b []byte) (*value, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := readValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("Unexpected text after the root value") //nolint:staticcheck // Google's sentence
	}
	return v, nil
}

func readValue(d *json.Decoder, depth int) (*value, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err //nolint:wrapcheck // the text becomes a part of the answer
	}
	switch t := token.(type) {
	case bool:
		return &value{kind: kindBool, text: strconv.FormatBool(t)}, nil
	case json.Number:
		return &value{kind: kindNumber, text: t.String()}, nil
	case string:
		return &value{kind: kindString, text: t}, nil
	case json.Delim:
		if depth == maxDepth {
			return nil, errors.New("Message too deep") //nolint:staticcheck // Google's sentence
		}
		return readMembers(d, t, depth+1)
	}
	return &value{}, nil
}

func readMembers(d *json.Decoder, open json.Delim, depth int) (*value, error) {
	v := &value{kind: kindArray}
	if open == '{' {
		v.kind = kindObject
	}
	for d.More() {
		var m member
		if v.kind == kindObject {
			key, err := d.Token()
			if err != nil {
				return nil, err //nolint:wrapcheck // the text becomes a part of the answer
			}
			m.key, _ = key.(string)
		}
		var err error
		if m.value, err = readValue(d, depth); err != nil {
			return nil, err
		}
		v.members = append(v.members, m)
	}
	_, err := d.Token()
	return v, err //nolint:wrapcheck // the text becomes a part of the answer
}
