package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/push"
)

// What HTTP/2 has no field value for, and what is no Unicode, is refused here and not by the gateway.
func TestRefusesWhatTheWireForbids(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for members, where := range map[string]string{
		`"collapse_id": "order-17 "`:                  "body.collapse_id",
		`"collapse_id": " order-17"`:                  "body.collapse_id",
		`"collapse_id": "order\r\n17"`:                "body.collapse_id",
		`"collapse_id": "order\u000017"`:              "body.collapse_id",
		`"topic_suffix": ".voip "`:                    "body.topic_suffix",
		`"topic_suffix": ".vo\nip"`:                   "body.topic_suffix",
		`"data": {"x": "\ud83d"}`:                     "body.data.x",
		`"data": {"x": ["a", {"y": "\ude00\ud83d"}]}`: "body.data.x[1].y",
		`"data": {"\ud83dx": 1}`:                      "body.data[\"\ufffdx\"]",
		`"collapse_id": "\uDBFF"`:                     "body.collapse_id",
	} {
		body := `{` + toOne + `, "aps": {"alert": "x"}, ` + members + `}`
		wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications", body), 422, "invalid", where)
		wantProblem(t, f.call(sendKey, http.MethodPost, "/v1/notifications/batch", `{"notifications": [`+body+`]}`), 422, "invalid",
			strings.Replace(where, "body", "body.notifications[0]", 1))
	}
	for _, ok := range []string{`"data": {"x": "\ud83d\ude00"}`, `"data": {"x": "\\ud83d"}`, `"collapse_id": "order 17 – é"`} {
		wantStatus(t, f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": {"alert": "x"}, `+ok+`}`), 202)
	}
	wantProblem(t, f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, `{"tags": ["\ud83d"]}`), 422, "invalid", "body.tags[0]")
}

func TestSendRefuses(t *testing.T) {
	t.Parallel()
	aps := func(aps string) string { return `{` + toOne + `, "aps": ` + aps + `}` }
	to := func(to string) string { return `{"aps": {"alert": "x"}, "to": ` + to + `}` }
	with := func(members string) string { return `{` + toOne + `, "aps": {"alert": "x"}, ` + members + `}` }
	list := func(n int, each func(int) string) string {
		elements := make([]string, 0, n)
		for i := range n {
			elements = append(elements, each(i))
		}
		return `[` + strings.Join(elements, ",") + `]`
	}
	invalid := func(body string, at ...string) refusal { return refusal{body, 422, "invalid", at} }
	for name, c := range map[string]refusal{
		"no body":             invalid(``, "body"),
		"not JSON":            {`to=all`, 400, "not-json", nil},
		"cut off":             {`{` + toOne + `, "aps": {"alert": "x"`, 400, "not-json", nil},
		"garbage behind":      {aps(`{}`) + `,`, 400, "not-json", nil},
		"a byte order mark":   {"\ufeff" + aps(`{}`), 400, "not-json", nil},
		"an array":            invalid(`[]`, "body"),
		"null":                invalid(`null`, "body"),
		"empty":               invalid(`{}`, "body.to", "body.aps"),
		"unknown field":       invalid(with(`"tokens": []`), "body.tokens"),
		"duplicate field":     invalid(`{`+toOne+`, `+toOne+`, "aps": {}}`, "body.to"),
		"to missing":          invalid(`{"aps": {}}`, "body.to"),
		"to empty":            invalid(to(`{}`), "body.to"),
		"to null":             invalid(to(`null`), "body.to"),
		"to a list":           invalid(to(`["`+token1+`"]`), "body.to"),
		"to two kinds":        invalid(to(`{"tokens": ["`+token1+`"], "all": true}`), "body.to"),
		"to unknown":          invalid(to(`{"everyone": true}`), "body.to.everyone", "body.to"),
		"no tokens":           invalid(to(`{"tokens": []}`), "body.to.tokens"),
		"too many tokens":     invalid(to(`{"tokens": `+list(10001, func(i int) string { return fmt.Sprintf(`"%064x"`, i) })+`}`), "body.to.tokens"),
		"bad tokens":          invalid(to(`{"tokens": ["`+token1+`", "xyz", 5, "`+token1[1:]+`", "`+strings.Repeat("ab", 101)+`"]}`), "body.to.tokens[1]", "body.to.tokens[2]", "body.to.tokens[3]", "body.to.tokens[4]"),
		"a token for a list":  invalid(to(`{"tokens": "`+token1+`"}`), "body.to.tokens"),
		"no users":            invalid(to(`{"users": []}`), "body.to.users"),
		"empty user":          invalid(to(`{"users": [""]}`), "body.to.users[0]"),
		"long user":           invalid(to(`{"users": ["`+strings.Repeat("u", 256)+`"]}`), "body.to.users[0]"),
		"all false":           invalid(to(`{"all": false}`), "body.to.all"),
		"tags empty":          invalid(to(`{"tags": {}}`), "body.to.tags"),
		"tags a list":         invalid(to(`{"tags": ["a"]}`), "body.to.tags"),
		"tags any empty":      invalid(to(`{"tags": {"any": []}}`), "body.to.tags.any"),
		"tags unknown":        invalid(to(`{"tags": {"not": ["a"]}}`), "body.to.tags.not", "body.to.tags"),
		"too many tags":       invalid(to(`{"tags": {"all": `+list(65, func(i int) string { return fmt.Sprintf(`"%d"`, i) })+`}}`), "body.to.tags.all"),
		"long tag":            invalid(to(`{"tags": {"none": ["`+strings.Repeat("t", 101)+`"]}}`), "body.to.tags.none[0]"),
		"environment":         invalid(to(`{"all": true, "environment": "test"}`), "body.to.environment"),
		"aps not an object":   invalid(aps(`"x"`), "body.aps"),
		"alert a number":      invalid(aps(`{"alert": 5}`), "body.aps.alert"),
		"alert null":          invalid(aps(`{"alert": null}`), "body.aps.alert"),
		"title a number":      invalid(aps(`{"alert": {"title": 5}}`), "body.aps.alert.title"),
		"loc-args text":       invalid(aps(`{"alert": {"loc-args": "x"}}`), "body.aps.alert.loc-args"),
		"loc-args numbers":    invalid(aps(`{"alert": {"loc-args": ["x", 1]}}`), "body.aps.alert.loc-args[1]"),
		"badge text":          invalid(aps(`{"badge": "1"}`), "body.aps.badge"),
		"badge too large":     invalid(aps(`{"badge": 4294967296}`), "body.aps.badge"),
		"badge negative":      invalid(aps(`{"badge": -1}`), "body.aps.badge"),
		"sound a number":      invalid(aps(`{"sound": 1}`), "body.aps.sound"),
		"volume too loud":     invalid(aps(`{"sound": {"critical": 1, "name": "x", "volume": 1.1}}`), "body.aps.sound.volume"),
		"critical":            invalid(aps(`{"sound": {"critical": 2}}`), "body.aps.sound.critical"),
		"content-available":   invalid(aps(`{"content-available": true}`), "body.aps.content-available"),
		"interruption-level":  invalid(aps(`{"interruption-level": "loud"}`), "body.aps.interruption-level"),
		"relevance-score":     invalid(aps(`{"relevance-score": 1.1}`), "body.aps.relevance-score"),
		"event":               invalid(aps(`{"event": "begin"}`), "body.aps.event"),
		"content-state":       invalid(aps(`{"content-state": []}`), "body.aps.content-state"),
		"stale-date":          invalid(aps(`{"stale-date": "tomorrow"}`), "body.aps.stale-date"),
		"url-args":            invalid(aps(`{"url-args": [1]}`), "body.aps.url-args[0]"),
		"duplicate in aps":    invalid(aps(`{"alert": "x", "x": [{"k": 1, "k": 2}], "\u0061lert": "y"}`), "body.aps.x[0].k", "body.aps.alert"),
		"aps in data":         invalid(with(`"data": {"\u0061ps": {}}`), "body.data.aps"),
		"data a list":         invalid(with(`"data": []`), "body.data"),
		"duplicate in data":   invalid(with(`"data": {"a": {"b": 1, "b": 1}}`), "body.data.a.b"),
		"two badges":          invalid(`{`+toOne+`, "aps": {"badge": 1}, "badge_increment": 1}`, "body.aps.badge"),
		"badge_increment":     invalid(with(`"badge_increment": -1`), "body.badge_increment"),
		"push_type":           invalid(with(`"push_type": "silent"`), "body.push_type"),
		"priority 7":          invalid(with(`"priority": 7`), "body.priority"),
		"priority text":       invalid(with(`"priority": "10"`), "body.priority"),
		"background at 10":    invalid(with(`"push_type": "background", "priority": 10`), "body.priority"),
		"liveactivity at 1":   invalid(with(`"push_type": "liveactivity", "priority": 1`), "body.priority"),
		"collapse_id long":    invalid(with(`"collapse_id": "`+strings.Repeat("é", 33)+`"`), "body.collapse_id"),
		"collapse_id control": invalid(with(`"collapse_id": "a\r\nb"`), "body.collapse_id"),
		"topic_suffix":        invalid(with(`"topic_suffix": "voip"`), "body.topic_suffix"),
		"apns_id":             invalid(with(`"apns_id": "mine"`), "body.apns_id"),
		"apns_id a number":    invalid(with(`"apns_id": 5`), "body.apns_id"),
		"apns_id of two":      invalid(`{"to": {"tokens": ["`+token1+`", "`+token1[:62]+`00"]}, "aps": {}, "apns_id": "123e4567-e89b-12d3-a456-426655440000"}`, "body.apns_id"),
		"apns_id of users":    invalid(`{"to": {"users": ["u"]}, "aps": {}, "apns_id": "123e4567-e89b-12d3-a456-426655440000"}`, "body.apns_id"),
		"rate 0":              invalid(with(`"rate": 0`), "body.rate"),
		"payload too large":   {aps(`{"alert": "` + strings.Repeat("x", 4077) + `"}`), 413, "too-large", nil},
		"body too large":      {aps(`{"alert": "` + strings.Repeat("x", 8<<20) + `"}`), 413, "too-large", nil},
		"only nulls in to":    {to(`{"tokens": null, "users": null, "tags": null, "all": null}`), 422, "invalid", []string{"body.to"}},
		"null in tags":        {to(`{"tags": {"any": null, "none": ["x"]}}`), 422, "invalid", []string{"body.to.tags.any"}},
		"every fault":         invalid(`{"to": {"tokens": ["x"]}, "aps": {"badge": -1}, "priority": 2, "x": 1}`, "body.x", "body.to.tokens[0]", "body.priority", "body.aps.badge"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			w := f.call(sendKey, http.MethodPost, "/v1/notifications", c.body)
			wantProblem(t, w, c.status, c.slug, c.at...)
			if len(f.requests) > 0 {
				t.Error("something was accepted")
			}
			if body := w.Body.String(); strings.Contains(body, token1) || strings.Contains(body, token1[1:]) {
				t.Errorf("the answer repeats a token: %s", body)
			}
			if !strings.HasPrefix(c.body, "{") || c.status == 400 {
				return
			}
			// The same in a batch, beside a good one: nothing is accepted.
			for i, at := range c.at {
				c.at[i] = "body.notifications[1]" + strings.TrimPrefix(at, "body")
			}
			w = f.call(sendKey, http.MethodPost, "/v1/notifications/batch", `{"notifications": [`+with(`"data": {}`)+`,`+c.body+`]}`)
			wantProblem(t, w, c.status, c.slug, c.at...)
			if len(f.requests) > 0 {
				t.Error("something was accepted")
			}
		})
	}
}

// refusal is a body with what it is answered.
type refusal struct {
	body   string
	status int
	slug   string
	at     []string
}

func TestPayloadLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, c := range []struct {
		key, members string
		limit        int
		frame        string // the payload without the text
	}{
		{sendKey, ``, 4096, `{"aps":{"alert":""}}`},
		{sendKey, `, "push_type": "voip"`, 5120, `{"aps":{"alert":""}}`},
		{binaryKey, ``, 2048, `{"aps":{"alert":""}}`},
		{binaryKey, `, "push_type": "voip"`, 2048, `{"aps":{"alert":""}}`},
		{sendKey, `, "badge_increment": 1`, 4096, `{"aps":{"badge":4294967295,"alert":""}}`},
		{sendKey, `, "data": {"a": [1,  2]}`, 4096, `{"aps":{"alert":""},"a":[1,2]}`},
	} {
		body := func(n int) string {
			return `{` + toOne + `, "aps": {"alert": "` + strings.Repeat("x", n-len(c.frame)) + `"}` + c.members + `}`
		}
		wantStatus(t, f.call(c.key, http.MethodPost, "/v1/notifications", body(c.limit)), 202)
		p := wantProblem(t, f.call(c.key, http.MethodPost, "/v1/notifications", body(c.limit+1)), 413, "too-large")
		if !strings.Contains(p.Detail, fmt.Sprint(c.limit+1)) || !strings.Contains(p.Detail, fmt.Sprint(c.limit)) {
			t.Errorf("the detail lacks the size or the limit: %s", p.Detail)
		}
	}
}

// The memory for what is wrong does not grow with the request: each element here would take a hundred times its length.
func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	list := `[` + strings.Repeat(`"",`, 9999) + `""]`
	for _, to := range []string{`{"tokens": ` + list + `}`, `{"users": ` + list + `}`, `{"tokens": [""]}`} {
		one := `{"to": ` + to + `, "aps": {"url-args": [` + strings.Repeat("1,", 999) + `1]}}`
		body := `{"notifications": [` + one + strings.Repeat(`,`+one, 99) + `]}`
		rd := accepting{app: &App{Name: "a", Platforms: apple("t", push.Production)}, now: now()}
		if _, err := rd.readBatch(t.Context(), push.JSON(body)); err != nil || len(rd.faults) > 3*maxFaults {
			t.Errorf("%.20s: %v, %d faults", to, err, len(rd.faults))
		}
		w := newFixture(t).call(sendKey, http.MethodPost, "/v1/notifications/batch", body)
		if p := decode[Problem](t, w); p.Status != 422 || len(p.Errors) != maxFaults || !strings.HasPrefix(p.Detail, "More than 100 ") {
			t.Errorf("%.20s: %d faults listed, %+v", to, len(p.Errors), p.Detail)
		}
	}
}

// A block that is longer than any push service takes is refused before its members are looked at: half a million of
// them took seconds.
func TestBlocksThatAreTooLong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	long := `{"a": "` + strings.Repeat("x", longestBlock) + `", "a": 1}` // it is not told that a key is there twice
	for _, block := range []string{"aps", "data"} {
		w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": {"alert": "x"}, "`+block+`": `+long+`}`)
		if block == "aps" {
			w = f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": `+long+`}`)
		}
		wantProblem(t, w, 413, "too-large")
		if !strings.Contains(w.Body.String(), "body."+block+" is 65") {
			t.Errorf("%s: %s", block, w.Body)
		}
	}
	// Spaces do not count.
	w := f.call(sendKey, http.MethodPost, "/v1/notifications", `{`+toOne+`, "aps": {"alert": "x"`+strings.Repeat(" ", 2*longestBlock)+`}}`)
	wantStatus(t, w, 202)
}
