package push

// Kind is what a device token is for, where a platform has tokens of several kinds: what is sent to one of another kind
// than it is meant for does not arrive. The empty Kind is for alerts, and that of platforms that have but one.
type Kind string

const (
	// KindAlert is the empty one.
	KindAlert Kind = ""
	// KindNone is of no device token: an answer to a notification of it says nothing of one that is registered.
	KindNone Kind = "none"
)

// alert is how the empty Kind is written.
const alert = "alert"

// String is the kind as it is written.
func (k Kind) String() string {
	if k == KindAlert {
		return alert
	}
	return string(k)
}

// TokenKind is a kind of token that a platform has.
type TokenKind struct {
	Kind Kind
	// Of is the field of a registration that says of what the token is (Device.KindOf), which such a token must have.
	// It is empty for a kind that knows none.
	Of string
}
