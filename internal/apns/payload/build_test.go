package payload

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/push"
)

func parseJSON(tb testing.TB, s string) push.JSON {
	tb.Helper()
	v, err := push.ParseJSON([]byte(s))
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestBuild(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		aps, data string
		badge     bool
		want      string // with the badge 42
	}{
		{`{ "alert" : "a b" }`, ``, false, `{"aps":{"alert":"a b"}}`},
		{`{}`, ``, false, `{"aps":{}}`},
		{`{}`, ``, true, `{"aps":{"badge":42}}`},
		{``, ``, true, `{"aps":{"badge":42}}`},
		{``, `{"mdm": "x"}`, false, `{"mdm":"x"}`},
		{``, `{"x": 1}`, true, `{"aps":{"badge":42},"x":1}`},
		{`{"sound": "s"}`, `{}`, true, `{"aps":{"badge":42,"sound":"s"}}`},
		{`{"z": 1, "a": 12345678901234567890, "n": 1.10}`, `{"z": [1, 2], "a": "\u003c<"}`, false, `{"aps":{"z":1,"a":12345678901234567890,"n":1.10},"z":[1,2],"a":"\u003c<"}`},
	} {
		var aps, data push.JSON
		if c.aps != "" {
			aps = parseJSON(t, c.aps)
		}
		if c.data != "" {
			data = parseJSON(t, c.data)
		}
		p, faults := build(TypeAlert, aps, data, c.badge, false)
		if len(faults) > 0 {
			t.Errorf("%s %s: %v", c.aps, c.data, faults)
			continue
		}
		if got := string(p.AppendTo(nil, 42)); got != c.want || p.Len(42) != len(got) || !json.Valid([]byte(got)) {
			t.Errorf("%s %s:\n%s, want\n%s", c.aps, c.data, got, c.want)
		}
	}
}

// What Apple's documents show must pass.
func TestGoodAps(t *testing.T) {
	t.Parallel()
	for _, aps := range []string{
		`{"alert": {"title": "t", "subtitle": "s", "body": "b", "launch-image": "i", "title-loc-key": "k", "title-loc-args": ["a"], "subtitle-loc-key": "k", "subtitle-loc-args": [], "loc-key": "k", "loc-args": ["a", "b"]}}`,
		`{"alert": {"body": "b", "action-loc-key": null, "title-loc-key": null, "title-loc-args": null}}`,
		`{"alert": {"title": "t", "body": "b", "action": "View"}, "url-args": ["a", "b"]}`,
		`{"badge": 0, "sound": {"critical": 1, "name": "x.aiff", "volume": 0.5}, "thread-id": "t", "category": "c", "content-available": 1, "mutable-content": 1, "target-content-id": "x"}`,
		`{"badge": 4294967295, "sound": {"critical": 0, "volume": 1.0}, "interruption-level": "time-sensitive", "relevance-score": 1, "filter-criteria": "f"}`,
		`{"relevance-score": 0.0, "alert": "", "sound": ""}`,
		`{"some-new-key": {"x": [null]}, "alert": {"some-new-key": 5}}`,
	} {
		if _, faults := build(TypeAlert, parseJSON(t, aps), nil, false, false); len(faults) > 0 {
			t.Errorf("%s: %v", aps, faults)
		}
	}
	live := `{"timestamp": 1234, "event": "start", "content-state": {"a": 1}, "stale-date": 1650998941, "dismissal-date": 1650998941, "attributes-type": "A", "attributes": {},
		"relevance-score": 100, "input-push-token": 1, "alert": {"title": {"loc-key": "%@", "loc-args": ["x"]}, "body": "b", "sound": "s.caf"}}`
	if _, faults := build(TypeLiveActivity, parseJSON(t, live), nil, false, false); len(faults) > 0 {
		t.Errorf("%v", faults)
	}
	if _, faults := build(TypeWidgets, parseJSON(t, `{"content-changed": true}`), nil, false, false); len(faults) > 0 {
		t.Errorf("%v", faults)
	}
}

func TestBadAps(t *testing.T) {
	t.Parallel()
	for aps, want := range map[string][]string{
		`[]`:                              {"body.aps"},
		`{"alert": ["x"]}`:                {"body.aps.alert"},
		`{"alert": {"body": null}}`:       {"body.aps.alert.body"},
		`{"alert": {"body": {}}}`:         {"body.aps.alert.body"}, // localized only in Live Activities
		`{"alert": {"loc-args": null}}`:   {"body.aps.alert.loc-args"},
		`{"alert": {"action": 1}}`:        {"body.aps.alert.action"},
		`{"alert": {"sound": 1}}`:         {"body.aps.alert.sound"},
		`{"badge": null}`:                 {"body.aps.badge"},
		`{"badge": 1.0}`:                  {"body.aps.badge"},
		`{"badge": true}`:                 {"body.aps.badge"},
		`{"sound": {"name": 1}}`:          {"body.aps.sound.name"},
		`{"sound": {"volume": -0.1}}`:     {"body.aps.sound.volume"},
		`{"sound": {"volume": "1"}}`:      {"body.aps.sound.volume"},
		`{"thread-id": 1, "category": 2}`: {"body.aps.thread-id", "body.aps.category"},
		`{"mutable-content": "1"}`:        {"body.aps.mutable-content"},
		`{"relevance-score": -0.1}`:       {"body.aps.relevance-score"},
		`{"relevance-score": "1"}`:        {"body.aps.relevance-score"},
		`{"attributes": 1}`:               {"body.aps.attributes"},
		`{"timestamp": "1"}`:              {"body.aps.timestamp"},
		`{"content-changed": 1}`:          {"body.aps.content-changed"},
		`{"url-args": "x"}`:               {"body.aps.url-args"},
		`{"event": null}`:                 {"body.aps.event"},
	} {
		_, faults := build(TypeAlert, parseJSON(t, aps), nil, false, false)
		var got []string
		for _, f := range faults {
			got = append(got, f.Location)
		}
		if !cmp.Equal(got, want) {
			t.Errorf("%s: %v, want %q", aps, faults, want)
		}
	}
	if _, faults := build(TypeLiveActivity, parseJSON(t, `{"alert": {"title": {"loc-key": 1, "loc-args": 2}}}`), nil, false, false); len(faults) != 2 {
		t.Errorf("a wrong localized title: %v", faults)
	}
}

// A hostile payload costs what its length costs, however much is wrong with it.
func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	numbers := `{"url-args": [` + strings.Repeat("1,", 1000) + `1]}`
	if _, faults := build(TypeAlert, parseJSON(t, numbers), nil, false, false); len(faults) != maxFaults {
		t.Errorf("not strings: %d faults", len(faults))
	}
}

func TestEveryTypeHasRules(t *testing.T) {
	t.Parallel()
	if len(types) != len(rules) {
		t.Errorf("%d types, %d rules", len(types), len(rules))
	}
	for _, typ := range types {
		r := rulesOf(typ, "")
		if r.lifetime == 0 || !r.allows(r.priorities[0]) || r.suffix != "" && r.suffix[0] != '.' {
			t.Errorf("%s: %+v", typ, r)
		}
		if !slices.Contains(tokenKinds, push.TokenKind{Kind: r.kind, Of: map[push.Kind]string{KindLiveActivity: "activity_id"}[r.kind]}) {
			t.Errorf("%s: no token is of kind %s", typ, r.kind)
		}
	}
	live := rulesOf(TypeLiveActivity, "update")
	if background := rulesOf(TypeBackground, ""); background.allows(10) || live.allows(1) || live.priorityNames() != "10 or 5" {
		t.Error("rules")
	}
	if start := rulesOf(TypeLiveActivity, "start"); start.kind != KindLiveActivityStart || start.lifetime != 24*time.Hour {
		t.Errorf("start: %+v", start)
	}
}

func TestCheckSize(t *testing.T) {
	t.Parallel()
	n := &push.Notification{Type: TypeAlert, Payload: push.Payload{JSON: make([]byte, 2038), BadgeAt: 1}} // and ten digits
	if err := checkSize(n, true); err != nil {
		t.Error(err)
	}
	n.Payload.JSON = make([]byte, 2039)
	err := checkSize(n, true)
	if !errors.Is(err, push.ErrTooLarge) || !strings.Contains(err.Error(), "2049 bytes long with the widest badge") ||
		!strings.Contains(err.Error(), "at most 2048") {
		t.Error(err)
	}
	for typ, limit := range map[push.Type]int{TypeAlert: 4096, TypeVoIP: 5120} {
		n := &push.Notification{Type: typ, Payload: push.Payload{JSON: make([]byte, limit)}}
		if checkSize(n, false) != nil {
			t.Errorf("%s: %d bytes are too large", typ, limit)
		}
		n.Payload.JSON = append(n.Payload.JSON, ' ')
		if checkSize(n, false) == nil {
			t.Errorf("%s: %d bytes are not too large", typ, limit+1)
		}
	}
}
