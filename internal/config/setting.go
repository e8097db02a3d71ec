package config

import (
	"encoding/hex"
	"fmt"
	"iter"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// setting is one of the fields of Config with its tags, or a group or list of them.
type setting struct {
	value reflect.Value
	tag   reflect.StructTag
	// file is set on a secret's _file: it takes the path, to be read later.
	file bool
}

func settingsOf(c *Config) setting { return setting{value: reflect.ValueOf(c).Elem()} }

func (s setting) isGroup() bool {
	return s.value.Kind() == reflect.Struct && s.value.Type() != reflect.TypeFor[time.Time]()
}

func (s setting) isList() bool { return s.value.Kind() == reflect.Slice }

func (s setting) len() int { return s.value.Len() }

func (s setting) clear() { s.value.SetZero() }

func (s setting) at(i int) setting { return setting{value: s.value.Index(i), tag: s.tag} }

// element is what a list is of.
func (s setting) element() setting {
	return setting{value: reflect.New(s.value.Type().Elem()).Elem(), tag: s.tag}
}

// grow adds an element to a list.
func (s setting) grow() setting {
	e := s.element()
	if e.isGroup() {
		setDefaultsIn(e)
	}
	s.value.Set(reflect.Append(s.value, e.value))
	return s.at(s.len() - 1)
}

// fileSuffix is what a secret's name has where a file holds it.
const fileSuffix = "_file"

// members goes through a group's settings, each secret's file among them.
func (s setting) members() iter.Seq2[string, setting] {
	return func(yield func(string, setting) bool) {
		for i := range s.value.NumField() {
			f := s.value.Type().Field(i)
			name := f.Tag.Get("yaml")
			if !f.IsExported() || name == "-" {
				continue
			}
			m := setting{value: s.value.Field(i), tag: f.Tag}
			if !yield(name, m) {
				return
			}
			if f.Tag.Get("secret") != "" {
				m.file = true
				if !yield(name+fileSuffix, m) {
					return
				}
			}
		}
	}
}

func (s setting) member(name string) (setting, bool) {
	for n, m := range s.members() {
		if n == name {
			return m, true
		}
	}
	return setting{}, false
}

// suggest is what may have been meant: a setting of this group, or one of the same name in a group of it.
func (s setting) suggest(path, name string) string {
	for n, m := range s.members() {
		if !m.isGroup() {
			continue
		}
		if _, inside := m.member(name); inside {
			return "; it is " + join(join(path, n), name)
		}
	}
	best, least := "", 3
	for n := range s.members() {
		if d := distance(n, name); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return "; is " + best + " meant?"
}

// distance is the number of letters to be added, left out or changed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// secretFile marks, in a secret's place, the path of the file that holds it, until ReadSecret reads it.
const secretFile = "\x00file:"

// set reads a single value. Its errors do not repeat secrets.
func (s setting) set(text string) error {
	if s.file {
		if s.value.String() != "" {
			return fmt.Errorf("is set, and so is the value itself: set one of the two")
		}
		s.value.SetString(secretFile + text)
		return nil
	}
	if s.tag.Get("secret") != "" && strings.HasPrefix(s.value.String(), secretFile) {
		return fmt.Errorf("is set, and so is its file: set one of the two")
	}
	switch v := s.value.Addr().Interface().(type) {
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("must be a time with its unit, like 10s, 5m or 24h, not %q", text)
		}
		if err := inRange(s.tag, d, time.ParseDuration); err != nil {
			return err
		}
		*v = d
		return nil
	case *time.Time:
		t, ok := push.ParseTime(text)
		if !ok {
			return fmt.Errorf("must be a time like 2027-01-31T12:00:00Z, not %q", text)
		}
		*v = t
		return nil
	case *Hash:
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(v) {
			return fmt.Errorf("must be a SHA-256 in hexadecimal, 64 digits, as server keygen prints it")
		}
		copy(v[:], b)
		return nil
	}
	switch s.value.Kind() {
	case reflect.String:
		if enum := s.tag.Get("enum"); enum != "" && !contains(enum, text) {
			return fmt.Errorf("must be one of %s, not %q", strings.ReplaceAll(enum, ",", ", "), text)
		}
		if strings.ContainsAny(text, "\x00\r\n") {
			return fmt.Errorf("must be a single line")
		}
		s.value.SetString(text)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("must be a whole number, not %q", text)
		}
		if err := inRange(s.tag, n, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }); err != nil {
			return err
		}
		s.value.SetInt(n)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil || text != "true" && text != "false" {
			return fmt.Errorf("must be true or false, not %q", text)
		}
		s.value.SetBool(b)
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || n != n {
			return fmt.Errorf("must be a number, not %q", text)
		}
		if err := inRange(s.tag, n, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }); err != nil {
			return err
		}
		s.value.SetFloat(n)
	default:
		return fmt.Errorf("must not be a single value")
	}
	return nil
}

func contains(list, s string) bool {
	for _, element := range strings.Split(list, ",") {
		if element == s {
			return true
		}
	}
	return false
}

func inRange[T int64 | float64 | time.Duration](tag reflect.StructTag, n T, parse func(string) (T, error)) error {
	least, err := parse(tag.Get("min"))
	most, err2 := parse(tag.Get("max"))
	if err != nil || err2 != nil {
		return fmt.Errorf("has no range in its tags") // a test sees to it that each has one
	}
	if n < least || n > most {
		return fmt.Errorf("must be from %s to %s", tag.Get("min"), tag.Get("max"))
	}
	return nil
}

// setDefaults sets what the tags say. A wrong tag is a mistake in this package, and each test would see it.
func setDefaults[T Config | App](into *T) {
	setDefaultsIn(setting{value: reflect.ValueOf(into).Elem()})
}

func setDefaultsIn(group setting) {
	for _, m := range group.members() {
		text, has := m.tag.Lookup("default")
		var err error
		switch {
		case m.file:
		case m.isGroup():
			setDefaultsIn(m)
		case has && m.isList():
			for _, element := range strings.Split(text, ",") {
				if err = m.grow().set(element); err != nil {
					break
				}
			}
		case has:
			err = m.set(text)
		}
		if err != nil {
			panic(fmt.Errorf("config: a default: %w", err))
		}
	}
}
