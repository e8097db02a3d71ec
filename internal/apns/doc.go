// Package apns holds the transports to the Apple Push Notification service, each behind the same three methods that
// internal/sender declares (Run, Send, Drain), the client of the feedback service, and the loading of the credentials they
// need. A transport turns groups of deliveries into bytes on connections, and what comes back into exactly one result for
// each delivery.
//
// It stores nothing, and it decides nothing about a notification's later life: attempts are counted, delays chosen, dead
// tokens removed and queues held elsewhere, from the results given here. It imports neither the queue, nor a database, nor
// the configuration, nor the simulator. The binary protocol's bytes are made in frame, without any I/O.
package apns
