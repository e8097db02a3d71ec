// Package push holds the values of the domain: device tokens, notifications and their payloads, deliveries, results and
// the reasons for them. It checks them, and it holds the sentinels by which the other packages tell their errors apart.
//
// It does no I/O and knows neither SQL nor HTTP nor a wire format; it imports nothing of ours.
package push

import "errors"

// Sentinels. Stores and services wrap them; internal/api maps each to one HTTP status, in one table.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("conflict")
	ErrForbidden   = errors.New("forbidden")
	ErrTooLarge    = errors.New("too large")
	ErrGone        = errors.New("gone") // it was there, and is kept no longer
	ErrBacklogFull = errors.New("backlog full")
	// ErrUnavailable means that a dependency (the database) cannot be reached now; repeating the call later may
	// succeed.
	ErrUnavailable = errors.New("temporarily unavailable")
)

// Route is one way out of one app: a gateway to which a device token belongs. A token of one route is unknown on
// another.
type Route string

// The two routes of DefaultPlatform: its environments.
const (
	Production Route = "production"
	Sandbox    Route = "sandbox"
)

// Valid reports whether r is one of the two.
func (r Route) Valid() bool { return r == Production || r == Sandbox }
