// Package webpush sends to browsers: Web Push (RFC 8030) with its message encryption (RFC 8291, RFC 8188) and its
// application server identification, VAPID (RFC 8292). It checks subscriptions and makes device tokens of them,
// composes payloads, and has the transport that turns groups of deliveries into requests to push services and their
// answers into one result each.
//
// A subscription's endpoint is an address that a stranger gave us and that this service then posts to. What is posted
// to is therefore checked twice: its origin by name (Origins), and each network address at the moment it is dialled
// (internal/netguard).
//
// It stores nothing, and it decides nothing about a notification's later life: that is done elsewhere, by the results
// given here. It imports neither the queue, nor a database, nor the configuration, nor another platform.
package webpush
