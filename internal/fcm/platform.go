package fcm

import (
	"strings"

	"github.com/lhspn/lhspn/internal/push"
)

// Route is the one way out that an app has to FCM.
const Route push.Route = Name

// Platform is FCM as an app has it, for internal/api: what it makes of notifications, and which device tokens it has.
type Platform struct{}

// Name is the platform's.
func (Platform) Name() string { return Name }

// Routes is the one.
func (Platform) Routes() []push.Route { return []push.Route{Route} }

// Compose is Compose, where the content has something for FCM. The size is a fault of its own kind, and no error.
func (Platform) Compose(c *push.Content) (*push.Notification, []push.Fault, error) {
	if !Wants(c) {
		return nil, nil, nil
	}
	n, faults := Compose(c)
	return n, faults, nil
}

// Preview is Preview.
func (Platform) Preview(n *push.Notification) []byte { return Preview(n) }

// Token makes the device token of a registration token or Firebase installation id, which given has as token. FCM
// needs no address beside it.
func (Platform) Token(given map[string]push.JSON) (push.Token, []byte, []push.Fault) {
	const at = "body.token"
	v := given["token"]
	switch {
	case v == nil:
		return "", nil, []push.Fault{{Location: at, Message: "is missing"}}
	case !v.IsString():
		return "", nil, []push.Fault{{Location: at, Message: "must be a registration token or a Firebase installation id"}}
	}
	t, err := Token(strings.TrimPrefix(v.String(), Name+":")) // the written form is taken for what it stands for
	if err != nil {
		return "", nil, []push.Fault{{Location: at, Message: err.Error()}}
	}
	return t, nil, nil
}

// CheckToken says what is wrong with a device token in its written form.
func (Platform) CheckToken(t push.Token) error {
	_, err := ParseToken(t.String())
	return err
}
