package push

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBuildPayload(t *testing.T) {
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
		var aps, data JSON
		if c.aps != "" {
			aps = parseJSON(t, c.aps)
		}
		if c.data != "" {
			data = parseJSON(t, c.data)
		}
		p, faults := BuildPayload(TypeAlert, aps, data, c.badge)
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
		if _, faults := BuildPayload(TypeAlert, parseJSON(t, aps), nil, false); len(faults) > 0 {
			t.Errorf("%s: %v", aps, faults)
		}
	}
	live := `{"timestamp": 1234, "event": "start", "content-state": {"a": 1}, "stale-date": 1650998941, "dismissal-date": 1650998941, "attributes-type": "A", "attributes": {},
		"relevance-score": 100, "input-push-token": 1, "alert": {"title": {"loc-key": "%@", "loc-args": ["x"]}, "body": "b", "sound": "s.caf"}}`
	if _, faults := BuildPayload(TypeLiveActivity, parseJSON(t, live), nil, false); len(faults) > 0 {
		t.Errorf("%v", faults)
	}
	if _, faults := BuildPayload(TypeWidgets, parseJSON(t, `{"content-changed": true}`), nil, false); len(faults) > 0 {
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
		_, faults := BuildPayload(TypeAlert, parseJSON(t, aps), nil, false)
		var got []string
		for _, f := range faults {
			got = append(got, f.Location)
		}
		if !cmp.Equal(got, want) {
			t.Errorf("%s: %v, want %q", aps, faults, want)
		}
	}
	if _, faults := BuildPayload(TypeLiveActivity, parseJSON(t, `{"alert": {"title": {"loc-key": 1, "loc-args": 2}}}`), nil, false); len(faults) != 2 {
		t.Errorf("a wrong localized title: %v", faults)
	}
}

func TestEveryTypeHasRules(t *testing.T) {
	t.Parallel()
	if len(Types()) != len(typeRules) {
		t.Errorf("%d types, %d rules", len(Types()), len(typeRules))
	}
	for _, typ := range Types() {
		if !typ.Valid() || !typ.Allows(typ.DefaultPriority()) || !strings.Contains("10 5 1", typ.Priorities()[:1]) {
			t.Errorf("%s", typ)
		}
	}
	if Type("silent").Valid() || TypeBackground.Allows(10) || TypeLiveActivity.Allows(1) || TypeLiveActivity.Priorities() != "10 or 5" {
		t.Error("rules")
	}
}

func TestCheckSize(t *testing.T) {
	t.Parallel()
	p := Payload{JSON: make([]byte, 2038), BadgeAt: 1} // and ten digits
	if err := p.CheckSize(TypeAlert, true); err != nil {
		t.Error(err)
	}
	p.JSON = make([]byte, 2039)
	err := p.CheckSize(TypeAlert, true)
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "2049 bytes long with the widest badge") || !strings.Contains(err.Error(), "at most 2048") {
		t.Error(err)
	}
	for typ, limit := range map[Type]int{TypeAlert: 4096, TypeVoIP: 5120} {
		if (Payload{JSON: make([]byte, limit)}).CheckSize(typ, false) != nil || (Payload{JSON: make([]byte, limit+1)}).CheckSize(typ, false) == nil {
			t.Errorf("%s: limit", typ)
		}
	}
}
