package webpush

import (
	"sync/atomic"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// Route is the one way out that an app has to browsers.
const Route push.Route = Name

// Platform is Web Push as an app has it, for internal/api: what it makes of notifications, and of what browsers
// register.
type Platform struct {
	// VAPID is empty while the key cannot be used; subscriptions are taken all the same.
	VAPID   atomic.Pointer[VAPID]
	Origins *Origins
}

// Name is the platform's.
func (p *Platform) Name() string { return Name }

// Routes is the one.
func (p *Platform) Routes() []push.Route { return []push.Route{Route} }

// PublicKey is the applicationServerKey for pushManager.subscribe; empty where there is none for now.
func (p *Platform) PublicKey() string {
	if vapid := p.VAPID.Load(); vapid != nil {
		return vapid.PublicKey()
	}
	return ""
}

// Compose is Compose, where the content has something for browsers. The size is a fault of its own kind, and no error.
func (p *Platform) Compose(c *push.Content) (*push.Notification, []push.Fault, error) {
	if !Wants(c) {
		return nil, nil, nil
	}
	n, faults := Compose(c)
	return n, faults, nil
}

// Preview is Preview.
func (p *Platform) Preview(n *push.Notification) []byte { return Preview(n) }

// Token makes the device token and the address of a subscription, which given has under that name.
func (p *Platform) Token(given map[string]push.JSON) (push.Token, []byte, []push.Fault) {
	const at = "body.subscription"
	if given["token"] != nil && given["subscription"] == nil {
		return "", nil, []push.Fault{{Location: at,
			Message: "is missing: a browser registers its subscription, and no token"}}
	}
	if given["subscription"] == nil {
		return "", nil, []push.Fault{{Location: at, Message: "is missing"}}
	}
	s, faults := ParseSubscription(given["subscription"], at, p.Origins, time.Now())
	if len(faults) > 0 {
		return "", nil, faults
	}
	// Who gives the token too means that subscription, and no other.
	if token := given["token"]; token != nil && !token.IsNull() &&
		(!token.IsString() || push.Token(token.String()) != s.Token()) {
		return "", nil, []push.Fault{{Location: "body.token",
			Message: "is not the token of the subscription: leave it out, it is made of that"}}
	}
	key := s.VAPID
	if key == "" {
		key = p.PublicKey()
	}
	return s.Token(), s.Address(key), nil
}

// CheckToken is CheckToken.
func (p *Platform) CheckToken(t push.Token) error { return CheckToken(t) }

// Subscription is the subscription of an address, as Token takes it again, with the VAPID key that it was made with.
func (p *Platform) Subscription(stored []byte) []byte {
	s, err := ParseAddress(stored)
	if err != nil {
		return nil
	}
	return s.JSON()
}
