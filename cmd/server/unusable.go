package main

import (
	"context"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/apns"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/sender"
)

// retryCredentials is how often credentials that could not be used are read again, at the most.
const retryCredentials = 5 * time.Second

// unusable is the transport of a route whose credentials cannot be used: the others must not wait for that. What it is
// given is blocked, so that the sender tries one notification now and then; then the files are read again, and when they
// can be used the real transport takes over.
type unusable struct {
	*way
	running context.Context //nolint:containedctx // Run's, for the real transport, which is made later
	ran     sync.WaitGroup

	mu    sync.Mutex // guards all below
	err   error
	tried time.Time
	real  sender.Transport
}

// Run implements sender.Transport.
func (u *unusable) Run(ctx context.Context) error {
	u.mu.Lock()
	u.running = ctx
	u.g.unusable.WithLabelValues(u.app.Name, string(u.route)).Set(1)
	u.g.log.Error("credentials cannot be used; the route's notifications wait until they can be",
		"app", u.app.Name, "route", u.route, "error", u.err)
	u.mu.Unlock()
	<-ctx.Done()
	u.ran.Wait()
	return nil
}

// Send implements sender.Transport.
func (u *unusable) Send(ctx context.Context, g *push.Group) error {
	if t := u.usable(); t != nil {
		return t.Send(ctx, g)
	}
	for i := range g.Deliveries {
		g.Deliveries[i].Result = push.Result{Outcome: push.Blocked, Reason: apns.CredentialsUnusable}
	}
	g.Done(g)
	return nil
}

// usable is the real transport, once there is one.
func (u *unusable) usable() sender.Transport {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.real != nil || u.running == nil || time.Since(u.tried) < retryCredentials {
		return u.real
	}
	u.tried = time.Now()
	t, err := u.open()
	if err != nil {
		u.err = err
		return nil
	}
	u.real = t
	running := u.running
	u.ran.Go(func() { _ = t.Run(running) })
	u.g.unusable.WithLabelValues(u.app.Name, string(u.route)).Set(0)
	u.g.log.Info("credentials can be used", "app", u.app.Name, "route", u.route)
	return t
}

// Drain implements sender.Transport.
func (u *unusable) Drain(ctx context.Context) error {
	u.mu.Lock()
	t := u.real
	u.mu.Unlock()
	if t == nil {
		return nil
	}
	return t.Drain(ctx)
}
