// Package push holds the values of the domain: device tokens, notifications and their payloads, deliveries, results and
// the reasons APNs gives. It checks them, and it holds the sentinels by which the other packages tell their errors apart.
//
// It does no I/O and knows neither SQL nor HTTP nor a wire format; it imports nothing of ours.
package push

import "errors"

// Sentinels. Stores and services wrap them; internal/api maps each to one HTTP status, in one table.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("conflict")
	ErrTooLarge    = errors.New("too large")
	ErrBacklogFull = errors.New("backlog full")
	// ErrUnavailable means that a dependency (the database) cannot be reached now; repeating the call later may succeed.
	ErrUnavailable = errors.New("temporarily unavailable")
)

// Environment is the APNs environment that a device token belongs to: a token of one is unknown in the other.
type Environment string

// The two environments of APNs.
const (
	Production Environment = "production"
	Sandbox    Environment = "sandbox"
)

// Valid reports whether e is one of the two.
func (e Environment) Valid() bool { return e == Production || e == Sandbox }
