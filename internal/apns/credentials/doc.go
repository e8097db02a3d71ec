// Package credentials loads what APNs knows its senders by, and follows the files while the service runs: client
// certificates, from PKCS#12 or PEM, and the provider tokens made with a signing key.
//
// Errors name a file and what was expected of it, and nothing of what it holds.
package credentials
