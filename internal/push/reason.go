package push

// Class says what a reason is about, and so how much it holds up: it is the scope of what is blocked or comes later.
type Class uint8

// The classes.
const (
	ClassNone  Class = iota // the notification itself, or nothing in particular
	ClassToken              // the recipient's device token: it may be wrong, or be of another route or key
	ClassKey                // the notification's key: what the service refuses is everything with that key
	ClassRoute              // the route: the service refuses all that this app sends there
)

// A Reason is why a delivery was not accepted. Reasons are compared by address: each platform declares a closed list of
// them, in its service's own spelling, beside those of this package. A nil Reason goes with what was accepted.
type Reason struct {
	// Text is what the API, the logs and the metrics show.
	Text  string
	Class Class
	// Remedy says what an operator can do about it; it may be empty.
	Remedy string
}

// The reasons that are no service's: what we decide or find ourselves.
var (
	UnknownReason   = &Reason{Text: "Unknown"} // the service answered something that is in no table
	ConnectionLost  = &Reason{Text: "ConnectionLost"}
	NoAnswer        = &Reason{Text: "NoAnswer"}
	ExpiredReason   = &Reason{Text: "Expired"}
	CancelledReason = &Reason{Text: "Cancelled"}
	// CredentialsUnusable says that there is nothing to prove to the service with who is sending.
	CredentialsUnusable = &Reason{Text: "CredentialsUnusable", Class: ClassRoute,
		Remedy: "a credential file cannot be used: see the log, or run server check"}
	// NoContent says that the notification has nothing for the platform that the device token is of.
	NoContent = &Reason{Text: "NoContent"}
)

// OwnReasons lists the reasons of this package, to initialise metrics with.
func OwnReasons() []*Reason {
	return []*Reason{UnknownReason, ConnectionLost, NoAnswer, ExpiredReason, CancelledReason, CredentialsUnusable,
		NoContent}
}

// String is the reason's text, empty for nil.
func (r *Reason) String() string {
	if r == nil {
		return ""
	}
	return r.Text
}

// Is reports whether the reason is of the class. Nil is of none.
func (r *Reason) Is(c Class) bool { return r != nil && r.Class == c }
