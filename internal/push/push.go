// Package push holds the values of the domain: device tokens, notifications and their payloads, deliveries, results and
// the reasons for them. It checks them, and it holds the sentinels by which the other packages tell their errors apart.
//
// It does no I/O and knows neither SQL nor HTTP nor a wire format; it imports nothing of ours.
package push

import (
	"errors"
	"fmt"
)

// Sentinels. Stores and services wrap them; internal/api maps each to one HTTP status, in one table.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("conflict")
	ErrForbidden   = errors.New("forbidden")
	ErrTooLarge    = errors.New("too large")
	ErrGone        = errors.New("gone") // it was there, and is kept no longer
	ErrBacklogFull = errors.New("backlog full")
	ErrQuota       = errors.New("quota exceeded")
	// ErrUnavailable means that a dependency (the database) cannot be reached now; repeating the call later may
	// succeed.
	ErrUnavailable = errors.New("temporarily unavailable")
)

// QuotaError says which limit a request would exceed. It is ErrQuota where the limit is the app's own, ErrBacklogFull
// where it is what all apps share, and ErrTooLarge where the request by itself is beyond the limit: it would never fit.
type QuotaError struct {
	Quota              string // the limit's name
	Limit, Used, Asked int64
	Shared             bool
}

func (e *QuotaError) Error() string {
	if e.Shared {
		return fmt.Sprintf("backlog full: %d %s recipients of %d of all apps, and %d more are asked for", e.Used, e.Quota,
			e.Limit, e.Asked)
	}
	return fmt.Sprintf("quota exceeded: the app has %d of %s %d, and %d more are asked for", e.Used, e.Quota, e.Limit,
		e.Asked)
}

// Unwrap makes it one of the sentinels.
func (e *QuotaError) Unwrap() error {
	switch {
	case e.Asked > e.Limit:
		return ErrTooLarge
	case e.Shared:
		return ErrBacklogFull
	}
	return ErrQuota
}

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
