package webhooks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/lhspn/lhspn/internal/netguard"
)

// Class is what a request came to. It is a closed enum: a metric's label.
type Class string

// The classes.
const (
	Delivered   Class = "delivered"   // 2xx
	Redirected  Class = "redirected"  // 3xx, which is not followed
	Refused     Class = "refused"     // 4xx
	Gone        Class = "gone"        // 410: the receiver wants no more
	Throttled   Class = "throttled"   // 429
	Failed      Class = "failed"      // 5xx
	Malformed   Class = "malformed"   // not HTTP, or half of it, or no final status
	Timeout     Class = "timeout"     // not in time
	Closed      Class = "closed"      // the connection ended before the answer
	TLS         Class = "tls"         // the certificate, or the handshake
	Unreachable Class = "unreachable" // no connection, or no such host
	Forbidden   Class = "forbidden"   // a private address, or plain http
	Stopped     Class = "stopped"     // the process stops: nothing is known of it
)

// Classes are all of them.
func Classes() []Class {
	return []Class{Delivered, Redirected, Refused, Gone, Throttled, Failed, Malformed, Timeout, Closed, TLS, Unreachable,
		Forbidden, Stopped}
}

// Answer is what became of a request.
type Answer struct {
	Class  Class
	Status int // 0: there was none
	// RetryAfter is what the receiver asks to wait; 0 where it asks nothing.
	RetryAfter time.Duration
	// Detail is for people, without the endpoint's URL.
	Detail string
	Took   time.Duration
}

// ofEvent reports whether it may be the event that is not taken, and not the receiver that takes none: it had the
// event, and does not ask to wait.
func (a *Answer) ofEvent() bool {
	switch a.Class {
	case Redirected, Refused, Failed, Malformed, Timeout, Closed:
		return a.RetryAfter == 0
	default:
		return false
	}
}

func classify(status int) Class {
	switch {
	case status >= 200 && status < 300:
		return Delivered
	case status >= 300 && status < 400:
		return Redirected
	case status == http.StatusGone:
		return Gone
	case status == http.StatusTooManyRequests:
		return Throttled
	case status >= 400 && status < 500:
		return Refused
	case status >= 500 && status < 600:
		return Failed
	}
	return Malformed
}

// maxDetail is the length of an error's text that is kept: it may quote the receiver.
const maxDetail = 200

// closedIdle is what net/http says of a connection that ended before the answer began. It exports no error for it.
const closedIdle = "server closed idle connection"

// classifyError sorts what net/http says when there is no answer.
func classifyError(err error) Answer {
	a := Answer{Class: Malformed, Detail: err.Error()}
	if len(a.Detail) > maxDetail {
		a.Detail = a.Detail[:maxDetail]
	}
	var network net.Error
	var operation *net.OpError
	var resolution *net.DNSError
	switch {
	case errors.Is(err, netguard.ErrInner):
		a.Class = Forbidden
	case errors.As(err, &resolution):
		a.Class = Unreachable
	case isTLS(err):
		a.Class = TLS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		a.Class, a.Detail = Timeout, "no answer in time"
	case errors.As(err, &operation) && operation.Op == "dial":
		a.Class = Unreachable
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed), strings.Contains(a.Detail, closedIdle):
		a.Class, a.Detail = Closed, "the connection ended before the answer"
	}
	return a
}

// isTLS reports whether the error is of the certificate or of the handshake.
func isTLS(err error) bool {
	var (
		record      tls.RecordHeaderError
		alert       tls.AlertError
		certificate *tls.CertificateVerificationError
		operation   *net.OpError
		unknown     x509.UnknownAuthorityError
		invalid     x509.CertificateInvalidError
		host        x509.HostnameError
	)
	return errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &certificate) ||
		errors.As(err, &unknown) || errors.As(err, &invalid) || errors.As(err, &host) ||
		errors.As(err, &operation) && operation.Op == "remote error" // an alert of the receiver's
}
