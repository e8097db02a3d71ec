package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parseJSON(tb testing.TB, s string) JSON {
	tb.Helper()
	v, err := ParseJSON([]byte(s))
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestParseJSONRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                     "ends in the middle, after 0 bytes",
		`{"a": 1`:              "ends in the middle, after 7 bytes",
		`"a`:                   "ends in the middle, after 2 bytes",
		`{"a": 1,}`:            "wrong at byte 9",
		`{"a": 1} {}`:          "wrong at byte 10",
		`{'a': 1}`:             "wrong at byte 2",
		`01`:                   "wrong at byte 2",
		`NaN`:                  "wrong at byte 1",
		"\"\xff\"":             "not in UTF-8",
		"\"a\nb\"":             "wrong at byte 3",
		"\ufeff{}":             "wrong at byte 1",
		strings.Repeat(`[`, 9): "ends in the middle, after 9 bytes",
		strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000): "wrong at byte",
	} {
		if _, err := ParseJSON([]byte(text)); !errors.Is(err, ErrNotJSON) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
}

func TestDuplicateKeys(t *testing.T) {
	t.Parallel()
	wide := func(last string) string {
		var b strings.Builder
		for i := range 40 {
			fmt.Fprintf(&b, `"k%02d":1,`, i)
		}
		return `{` + b.String() + last + `:2}`
	}
	for text, want := range map[string][]string{
		`{"a": 1, "b": {"a": 1}, "c": [{"a": 1}, {"a": 1}]}`: nil,
		`{"a": 1, "a": 1}`:                                   {"x.a"},
		`{"a": 1, "\u0061": 1}`:                              {"x.a"},
		`{"a": [0, {"b": 1, "b": 2}]}`:                       {"x.a[1].b"},
		`{"a": {"b": {"c d": 1, "c d": 2}, "b": 3}, "a": 4}`: {`x.a.b["c d"]`, "x.a.b", "x.a"},
		`["a", "a"]`:                                         nil,
		`"a"`:                                                nil,
		`{"\"": 1, "\\": 2, "\\\"": 3, "\u0022": 4}`:         {`x["\""]`},
		wide(`"other"`):                                      nil,
		wide(`"k00"`):                                        {"x.k00"},
		wide(`"k\u00339"`):                                   {"x.k39"},
		`{"` + strings.Repeat("ab", 32) + `":1,"` + strings.Repeat("ab", 32) + `":1}`: {`x["…"]`}, // it may be a device token
	} {
		var got []string
		for _, f := range parseJSON(t, text).DuplicateKeys("x") {
			got = append(got, f.Location)
		}
		if !cmp.Equal(got, want) {
			t.Errorf("%.60s: %q, want %q", text, got, want)
		}
	}
}

// A hostile document costs what its length costs, however deep it is and however much is wrong with it. (Done level by
// level, the first of these takes minutes.)
func TestDuplicateKeysOfHostileDocuments(t *testing.T) {
	t.Parallel()
	const depth = 9000
	deep := strings.Repeat("[", depth) + `{"a":1,"a":2}` + strings.Repeat("]", depth)
	faults := parseJSON(t, deep).DuplicateKeys("x")
	if want := "x" + strings.Repeat("[0]", 64) + "…"; len(faults) != 1 || faults[0].Location != want {
		t.Errorf("deep: %v", faults)
	}
	wide := "[" + strings.Repeat(`{"a":1,"a":2},`, 1000) + "0]"
	if faults := parseJSON(t, wide).DuplicateKeys("x"); len(faults) != maxFaults || faults[maxFaults-1].Location != "x[99].a" {
		t.Errorf("wide: %d faults", len(faults))
	}
}

// FuzzJSON compares what Members, Elements and AppendCompact make of a document with encoding/json.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a": [1, -2.5e+3, "x\"\\", null, true], "b": {}, "": []}`, " [ ] ", `"\\"`, `{"\\\"}{": "]["}`, `0`, `[[],[[]],{"a":[]}]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseJSON([]byte(text))
		if err != nil {
			return
		}
		var want bytes.Buffer
		if err := json.Compact(&want, []byte(text)); err != nil {
			t.Fatalf("taken, but encoding/json says: %v", err)
		}
		if got := string(v.AppendCompact(nil)); got != want.String() {
			t.Fatalf("compact %q, want %q", got, want.String())
		}
		switch {
		case v.IsObject():
			var m map[string]json.RawMessage
			if err := json.Unmarshal([]byte(text), &m); err != nil {
				t.Fatal(err)
			}
			duplicates := false
			seen := map[string]bool{}
			for key, value := range v.Members() {
				duplicates = duplicates || seen[key.String()]
				seen[key.String()] = true
				if string(key.Text()) != key.String() {
					t.Fatalf("key %q and %q", key.Text(), key.String())
				}
				m[key.String()] = json.RawMessage(value)
			}
			if len(seen) != len(m) {
				t.Fatalf("%d members, want %d", len(seen), len(m))
			}
			if duplicates && len(v.DuplicateKeys("")) == 0 {
				t.Fatal("duplicates were not seen")
			}
		case v.IsArray():
			var list []json.RawMessage
			if err := json.Unmarshal([]byte(text), &list); err != nil {
				t.Fatal(err)
			}
			if v.Count() != len(list) {
				t.Fatalf("%d elements, want %d", v.Count(), len(list))
			}
			for i, element := range v.Elements() {
				if string(element) != string(list[i]) {
					t.Fatalf("element %d is %q, want %q", i, element, list[i])
				}
			}
		}
		v.DuplicateKeys("x")
	})
}

func TestGet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, name, want string }{
		{`{"a": 1, "b": {"a": 2}}`, "b", `{"a": 2}`}, {`{"\u0061": null}`, "a", "null"}, {`{"b": {"a": 2}}`, "a", ""},
		{`{}`, "a", ""}, {`["a"]`, "a", ""}, {`"a"`, "a", ""}, {"null", "a", ""},
	} {
		v, err := ParseJSON([]byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Get(c.name); string(got) != c.want || (got == nil) != (c.want == "") {
			t.Errorf("%s of %s: %q", c.name, c.text, got)
		}
	}
	if JSON(nil).Get("a") != nil {
		t.Error("a member of nothing")
	}
}
