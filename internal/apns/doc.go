// Package apns holds what the transports to the Apple Push Notification service share: the reasons that APNs gives, the
// ids of notifications, and the metrics. The transport over the HTTP/2 provider API is in provider, the one over the
// binary protocol in binary, with the client of the feedback service, and what APNs knows its senders by in
// credentials.
//
// A transport turns groups of deliveries into bytes on connections, and what comes back into exactly one result for
// each delivery. It stores nothing, and it decides nothing about a notification's later life: attempts are counted,
// delays chosen, dead tokens removed and queues held elsewhere, from the results given here. It imports neither the
// queue, nor a database, nor the configuration, nor the simulator.
package apns
