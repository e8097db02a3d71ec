package payload

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/lhspn/lhspn/internal/push"
)

const blockMessage = "message"

// fromMessage is aps and data with what the message adds to them: the members of aps win over what the message gives,
// and those of data over the image and the link, which are beside aps for the app to read.
func fromMessage(m *push.Message, aps, data push.JSON, receipts bool) (mergedAPS, mergedData push.JSON) {
	shown := object{taken: aps}
	shown.put("alert", messageAlert{m.Title, m.Subtitle, m.Body})
	shown.put("sound", m.Sound)
	if m.Badge != nil {
		shown.put("badge", *m.Badge)
	}
	shown.put("thread-id", m.Thread)
	shown.put("category", m.Category)
	if m.Image != "" || receipts {
		shown.put("mutable-content", 1) // the app's notification service extension loads it, and sends the receipt
	}
	beside := object{taken: data}
	beside.put("image", m.Image)
	beside.put("link", m.Link)
	return shown.merged(), beside.merged()
}

// messageAlert is the dictionary of an alert.
type messageAlert struct {
	Title    string `json:"title,omitempty"`
	Subtitle string `json:"subtitle,omitempty"`
	Body     string `json:"body,omitempty"`
}

// object adds members to one that is given, where it has none of the name.
type object struct {
	taken push.JSON
	text  strings.Builder
}

func (o *object) put(name string, value any) {
	if value == "" || o.taken.Get(name) != nil {
		return
	}
	if o.text.Len() > 0 {
		o.text.WriteByte(',')
	}
	o.text.WriteString(`"` + name + `":`)
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // it would cost bytes of the limit
	_ = encoder.Encode(value)    // texts and numbers
	o.text.Write(bytes.TrimSpace(b.Bytes()))
}

// merged is the added members, then the given ones; nil where there are none of either.
func (o *object) merged() push.JSON {
	given := o.taken.Inner()
	switch {
	case o.text.Len() == 0:
		return o.taken
	case len(given) > 0:
		o.text.WriteByte(',')
	}
	return push.JSON("{" + o.text.String() + string(given) + "}")
}
