// Package binary is the transport to APNs over its binary provider protocol (the enhanced format and command 2), and
// the client of the feedback service. A group of deliveries becomes frames on connections, and each delivery gets
// exactly one result. The bytes are made by internal/apns/frame, without any I/O.
//
// The protocol answers errors only, and only the first one of a connection; what was written after the refused
// notification is thrown away. So the transport keeps all that it has written and of which nothing is known yet, the
// unconfirmed, and waits for evidence: an error response that names a later notification, an acknowledgement (status 0,
// which some gateways send), or the orderly end of a connection that we half-closed. Silence is evidence only with a
// gateway that is known to give no better. What a connection that ended otherwise leaves unconfirmed is written again
// on another.
//
// A slot is the place of one connection that is written to, together with those before it that wait for their end. A
// culprit is a notification that breaks each connection it is sent on; it is searched for by writing less and less
// at a time.
//
// The package stores nothing and decides nothing about a notification's later life. It knows neither the queue, nor a
// database, nor the configuration, nor the simulator.
package binary
