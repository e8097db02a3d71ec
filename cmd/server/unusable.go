package main

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/sender"
)

// retryCredentials is how often credentials that could not be used are read again.
const retryCredentials = 2 * time.Second

// opener reads a route's credentials and makes its transport, which connects to nothing yet.
type opener interface {
	open() (sender.Transport, error)
	// close has the credentials not be followed any more, and open fail.
	close()
}

// unusable is the transport of a route whose credentials cannot be used: the others must not wait for that. What it is
// given is blocked, so that the sender tries one notification now and then. The files are read again and again, and
// when they can be used the real transport takes over.
type unusable struct {
	opener
	app   string
	route push.Route
	g     *gateways
	err   error // why they cannot be used

	mu   sync.Mutex // guards real
	real sender.Transport
}

// Run implements sender.Transport.
func (u *unusable) Run(ctx context.Context) error {
	gauge := u.g.unusable.WithLabelValues(u.app, string(u.route))
	gauge.Set(1)
	u.g.log.Error("credentials cannot be used; the route's notifications wait until they can be",
		"app", u.app, "route", u.route, "error", u.err)
	again := time.NewTicker(retryCredentials)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		t, err := u.open()
		if err != nil {
			continue
		}
		u.mu.Lock()
		u.real = t
		u.mu.Unlock()
		gauge.Set(0)
		u.g.log.Info("credentials can be used", "app", u.app, "route", u.route)
		return t.Run(ctx)
	}
}

// usable is the real transport, nil until there is one.
func (u *unusable) usable() sender.Transport {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.real
}

// Waiting implements sender.Waiting.
func (u *unusable) Waiting() *push.Reason {
	if u.usable() == nil {
		return push.CredentialsUnusable
	}
	return nil
}

// Send implements sender.Transport.
func (u *unusable) Send(ctx context.Context, g *push.Group) error {
	if t := u.usable(); t != nil {
		return t.Send(ctx, g)
	}
	for i := range g.Deliveries {
		g.Deliveries[i].Result = push.Result{Outcome: push.Blocked, Reason: push.CredentialsUnusable}
	}
	g.Done(g)
	return nil
}

// Recall implements sender.Recaller.
func (u *unusable) Recall(notification uuid.UUID) {
	if t, ok := u.usable().(sender.Recaller); ok {
		t.Recall(notification)
	}
}

// Drain implements sender.Transport.
func (u *unusable) Drain(ctx context.Context) error {
	if t := u.usable(); t != nil {
		return t.Drain(ctx)
	}
	return nil
}
