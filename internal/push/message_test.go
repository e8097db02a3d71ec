package push_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/push"
)

func parseMessage(t *testing.T, text string, perDeviceBadge bool) (*push.Message, string) {
	t.Helper()
	v, err := push.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m, faults := push.ParseMessage(v, perDeviceBadge)
	var all []string
	for _, f := range faults {
		all = append(all, f.Error())
	}
	return m, strings.Join(all, "\n")
}

func TestParseMessage(t *testing.T) {
	t.Parallel()
	m, faults := parseMessage(t, `{"title": "T", "subtitle": "S", "body": "B\n", "image": "https://e.example/i.png", "sound": "default",
		"link": "example://orders/1", "badge": 3, "thread": "th", "category": "c",
		"actions": [{"id": "a", "title": "A"}, {"id": "b", "title": "B", "link": "https://e.example/b"}]}`, false)
	badge := uint32(3)
	want := &push.Message{
		Title: "T", Subtitle: "S", Body: "B\n", Image: "https://e.example/i.png", Sound: "default", Link: "example://orders/1",
		Badge: &badge, Thread: "th", Category: "c",
		Actions: []push.MessageAction{{ID: "a", Title: "A"}, {ID: "b", Title: "B", Link: "https://e.example/b"}},
	}
	if faults != "" || !cmp.Equal(m, want) {
		t.Errorf("faults %q, differences %s", faults, cmp.Diff(want, m))
	}
}

const (
	noPlace = "must be a place to go to, as in https://example.com/orders/4711 or example://orders/4711: URLs that run or " +
		"hold what they say, or name a file, are not taken"
	noLink = "must be an absolute URL, as in https://example.com/orders/4711 or example://orders/4711"
)

func TestParseMessageFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, message  string
		perDeviceBadge bool
		want           string
	}{
		{"a string", `"hello"`, false, "body.message: must be an object"},
		{"neither title nor body", `{"subtitle": "S"}`, false, "body.message: needs a title or a body"},
		{"both empty", `{"title": "", "body": ""}`, false, "body.message: needs a title or a body"},
		{"a number for a title", `{"title": 1}`, false, "body.message.title: must be a string"},
		{"a null", `{"title": null}`, false, "body.message.title: must be a string"},
		{"an image over http", `{"title": "T", "image": "http://e.example/i.png"}`, false, "body.message.image: must be an https URL"},
		{"a link without scheme", `{"title": "T", "link": "/orders"}`, false, "body.message.link: " + noLink},
		{"a link that runs", `{"title": "T", "link": "JavaScript:alert(1)"}`, false, "body.message.link: " + noPlace},
		{"a link that holds", `{"title": "T", "link": "data:text/html,<script>alert(1)</script>"}`, false, "body.message.link: " + noPlace},
		{"a link to a file", `{"title": "T", "link": "file:///etc/passwd"}`, false, "body.message.link: " + noPlace},
		{"a link to no host", `{"title": "T", "link": "https:///orders"}`, false, "body.message.link: " + noLink},
		{"a link with a tab", `{"title": "T", "link": "java\tscript:alert(1)"}`, false, "body.message.link: " + noLink},
		{"an image that holds", `{"title": "T", "image": "data:image/png;base64,AAAA"}`, false, "body.message.image: must be an https URL"},
		{"a button that runs", `{"title": "T", "actions": [{"id": "a", "title": "A", "link": "vbscript:x"}]}`, false,
			"body.message.actions[0].link: " + noPlace},
		{"a negative badge", `{"title": "T", "badge": -1}`, false, "body.message.badge: must be a whole number from 0 to 4294967295"},
		{"two badges", `{"title": "T", "badge": 1}`, true, "body.message.badge: is not allowed together with badge_increment"},
		{"an unknown member", `{"title": "T", "colour": "red"}`, false, "body.message.colour: is not a member of message"},
		{"twice the same", `{"title": "T", "title": "U"}`, false, "body.message.title: duplicate key"},
		{"actions that are none", `{"title": "T", "actions": {}}`, false, "body.message.actions: must be an array of objects with id and title"},
		{"an action that is none", `{"title": "T", "actions": [1]}`, false, "body.message.actions[0]: must be an object with id and title"},
		{"an action without a title", `{"title": "T", "actions": [{"id": "a"}]}`, false, "body.message.actions[0]: needs an id and a title"},
		{"an action with more", `{"title": "T", "actions": [{"id": "a", "title": "A", "icon": "i"}]}`, false,
			"body.message.actions[0].icon: is not a member of an action"},
		{"eleven actions", `{"title": "T", "actions": [` + strings.Repeat(`{"id": "a", "title": "A"},`, 10) + `{"id": "a", "title": "A"}]}`, false,
			"body.message.actions: must have at most 10 elements"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, faults := parseMessage(t, test.message, test.perDeviceBadge); faults != test.want {
				t.Errorf("%s\nwant %s", faults, test.want)
			}
		})
	}
}
