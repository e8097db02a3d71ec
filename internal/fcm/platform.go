package fcm

import "github.com/lhspn/lhspn/internal/push"

// Platform is what the API asks of FCM: which content is for it, what is made of that, and which device tokens it has.
type Platform struct{}

// Name is the platform's.
func (Platform) Name() string { return Name }

// Wants is Wants.
func (Platform) Wants(c *push.Content) bool { return Wants(c) }

// Compose is Compose.
func (Platform) Compose(c *push.Content) (*push.Notification, []push.Fault) { return Compose(c) }

// Preview is Preview.
func (Platform) Preview(n *push.Notification) push.JSON { return Preview(n) }

// Token is Token.
func (Platform) Token(address string) (push.Token, error) { return Token(address) }
