package console

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// What the console needs of the other parts of the service. Errors are those that Explain knows; what cannot be reached
// wraps push.ErrUnavailable, what is not there push.ErrNotFound.

// Operators know who may act.
type Operators interface {
	// Operator finds an operator's key by its text; id is the key's own and tells nothing of it.
	Operator(key string, from netip.Addr) (id [32]byte, name string, err error)
	// StillOperator is the name of that key, and whether it is still to be taken.
	StillOperator(id [32]byte) (name string, ok bool)
	// HasOperators reports whether there is such a key at all.
	HasOperators() bool
}

// App is an app in the list of all.
type App struct {
	Name     string
	FromFile bool // it is the configuration file's, and changed there
	Deleting bool // what it has is being removed
}

// Apps are the apps there are, and the way to change them.
type Apps interface {
	// Names are all apps by their names, from memory: it is asked for with every request.
	Names() []App
	// Problems say what of an app's settings cannot be used.
	Problems(app string) []string
	// Webhooks are the app's, as far as this replica sends to them.
	Webhooks(app string) []Webhook
	// Entry is an app's entry with its keys, without any secret.
	Entry(ctx context.Context, app string) (json.RawMessage, error)
	Put(ctx context.Context, app string, entry push.JSON) (created bool, err error)
	Delete(ctx context.Context, app string) error
	// AddKey makes a key, which nothing shows again.
	AddKey(ctx context.Context, app string, key Key) (text string, err error)
	DeleteKey(ctx context.Context, app, key string) error
	// NewWebhookSecret makes a secret that a webhook's requests are signed with.
	NewWebhookSecret() string
}

// Webhook is how a webhook of an app is doing, on the replica that is asked.
type Webhook struct {
	Endpoint string
	// Undelivered is the age of the oldest event that it has not taken.
	Undelivered time.Duration
	// Disabled says that nothing is sent to it: it has answered that it is gone.
	Disabled bool
}

// Key is what a new key is made of.
type Key struct {
	Name, Scope string
	Rate        int       // requests a second; 0: no limit
	ExpiresAt   time.Time // zero: never
}

// Notifications is the queue, and the way into it.
type Notifications interface {
	// List returns the newest before the given one (the zero UUID: from the newest on), and the cursor of the next
	// page.
	List(ctx context.Context, app string, state push.State, before uuid.UUID, limit int) ([]push.Status, uuid.UUID, error)
	Get(ctx context.Context, app string, id uuid.UUID) (push.Status, error)
	// CountFailures counts failures by reason, the most frequent first; complete is false where there are more than it
	// looks at.
	CountFailures(ctx context.Context, id uuid.UUID) (counts []ReasonCount, complete bool, err error)
	Failures(ctx context.Context, app string, id uuid.UUID, after push.Token, limit int) ([]push.Failure, error)
	Cancel(ctx context.Context, app string, id uuid.UUID) (push.Status, error)
	// Submit accepts what would be the body of POST /v1/notifications.
	Submit(ctx context.Context, app string, body []byte) (uuid.UUID, error)
	// Waiting is how many recipients wait, over all apps and replicas, as of the last look, and how many are scheduled.
	Waiting() (waiting, scheduled int64)
}

// ReasonCount says how many recipients failed for a reason.
type ReasonCount struct {
	Reason string
	Status uint16
	Count  int64
}

// Tokens is the registry, with what is remembered of device tokens.
type Tokens interface {
	// Read lists the device tokens that what somebody wrote may stand for, in whichever form that is.
	Read(written string) []push.Token
	Get(ctx context.Context, app string, t push.Token) (push.Device, error)
	History(ctx context.Context, app string, t push.Token) (History, error)
}

// History is what is kept of a device token, registered or not. The newest is first.
type History struct {
	Invalidations []push.CheckedInvalidation // without CheckedAt where the scheduled pass has not decided
	Bad           []BadAnswers
	Failures      []TokenFailure
	Events        []push.Event
	// EventsSince is how far back events were looked through; zero: as far as they are kept.
	EventsSince time.Time
}

// BadAnswers counts the answers that called a device token bad.
type BadAnswers struct {
	Route   push.Route
	Answers int
	FirstAt time.Time
	LastAt  time.Time
}

// TokenFailure is a failure with the notification that it is of.
type TokenFailure struct {
	push.Failure
	Notification uuid.UUID
}

// Route is what a route does now.
type Route struct {
	App       string
	Route     push.Route
	Platform  string
	Transport string
	// Pause is zero while the route sends; then Keys may have keys that it does not send for.
	Pause       Pause
	Keys        []Pause
	Ready       [2]int // recipients in this replica's memory that wait, by lane: urgent, bulk
	InFlight    int
	Sums        [2]Sums // by lane
	Connections int     // -1: not known
	// Unreachable is the gateway that cannot be reached; empty while it can.
	Unreachable string
	// Unusable says that the route's credentials cannot be used.
	Unusable bool
}

// Pause is why something is not sent to but for one notification now and then.
type Pause struct {
	Key          string // of the route; empty: all of it
	Cause        string // connection, configuration, unavailable, throttled; empty: none
	Reason       *push.Reason
	Since, Until time.Time
}

// Sums count results from when the route began.
type Sums struct{ Accepted, Refused, Later uint64 }

// Sending is what this replica sends.
type Sending interface {
	// Routes are all routes by app and name. Their Connections, Unreachable and Unusable are left out where with is
	// false, which is what is asked for every two seconds.
	Routes(with bool) []Route
}

// Feedback is the scheduled pass that removes dead device tokens.
type Feedback interface {
	Passes(ctx context.Context, app string) (Passes, error)
}

// Passes is what an app's passes have come to.
type Passes struct {
	// LastSuccess is of this replica; zero where there was none since it began.
	LastSuccess time.Time
	// Guards name the platforms of which nothing is removed for now, with the reason.
	Guards  []Guard
	Checked []push.CheckedInvalidation // the newest
	Pending int                        // what waits for the next pass, up to 100
}

// Guard holds the removal of a platform's device tokens.
type Guard struct {
	Platform string
	Bad      bool // so many are called bad; else so many are called unregistered
}

// Replica is a process of the service.
type Replica struct {
	ID     string
	Self   bool
	Shards []uint8
}

// Replicas are the processes that share the database.
type Replicas interface {
	// Replicas come with the shards that nobody owns.
	Replicas(ctx context.Context) (all []Replica, free []uint8, err error)
}

// Problem is an error as people are told of it.
type Problem struct {
	Status int // of HTTP
	Text   string
	Faults []push.Fault
}
