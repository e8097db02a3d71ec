package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lhspn/lhspn/bench/internal/rig"
)

// attacked is what the attack has done.
type attacked struct {
	Opened     int64 `json:"opened"` // slow connections; each that is closed is opened again
	Registered int64 `json:"registered"`
	Refused    int64 `json:"refused"`
}

func (a *attacked) add(b attacked) {
	a.Opened, a.Registered, a.Refused = a.Opened+b.Opened, a.Registered+b.Registered, a.Refused+b.Refused
}

const (
	// dripEvery is how often a slow connection sends a byte, which keeps a timeout from one byte to the next from firing.
	dripEvery = 2 * time.Second
	// limit is the service's default for each address, and tenfold what is sent.
	limit, tenfold = 10, 10
	// sources are the client addresses of the slow connections: one has 1,000 at the most.
	sources = 100
)

// attack goes on until ctx ends, and prints what it has done.
func attack(ctx context.Context, o options) error {
	// Attackers have processors of their own: here this process gets what the others leave.
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19); err != nil {
		return fmt.Errorf("lower the attack's priority: %w", err)
	}
	var opened, registered, refused atomic.Int64
	var parts sync.WaitGroup
	for i := range o.connections {
		parts.Go(func() {
			for ctx.Err() == nil {
				opened.Add(1)
				hold(ctx, o.attack, i)
			}
		})
		if i%10 == 0 { // about a second: as fast as the backlog of the listener takes them
			_ = wait(ctx, time.Millisecond)
		}
	}
	for i := range o.addresses {
		parts.Go(func() { register(ctx, o.attack, i, &registered, &refused) })
	}
	parts.Wait()
	return json.NewEncoder(os.Stdout).Encode(attacked{opened.Load(), registered.Load(), refused.Load()})
}

// hold opens one slow connection, and keeps it as long as the service does: one that says nothing, one whose header
// does not end, or one whose body does not.
func hold(ctx context.Context, address string, i int) {
	c, err := from(1, i%sources).DialContext(ctx, "tcp", address)
	if err != nil {
		_ = wait(ctx, 100*time.Millisecond)
		return
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	begin := []string{"", "GET /v1/tokens HTTP/1.1\r\nHost: x\r\nX-A: ", "PUT /v1/tokens/" + strings.Repeat("ab", 32) +
		" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + registerKey + "\r\nContent-Length: 60000\r\n\r\n"}[i%3]
	if begin == "" {
		_, _ = io.Copy(io.Discard, c) // until it is closed
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, c) // an answer, and the end
		_ = c.Close()
	}()
	for _, err = io.WriteString(c, begin); err == nil && wait(ctx, dripEvery) == nil; {
		_, err = c.Write([]byte("x"))
	}
}

// register registers invented tokens from one address, at ten times what it may.
func register(ctx context.Context, address string, i int, registered, refused *atomic.Int64) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: from(2, i).DialContext, MaxIdleConnsPerHost: 100,
	}}
	tick := time.NewTicker(time.Second / (limit * tenfold))
	defer tick.Stop()
	var under sync.WaitGroup
	defer under.Wait()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		token := rig.Token(1_000_000*(i+1) + n)
		under.Go(func() {
			url := fmt.Sprintf("http://%s/v1/tokens/%s", address, token)
			r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, http.NoBody)
			if err != nil {
				return
			}
			r.Header.Set("Authorization", "Bearer "+registerKey)
			answer, err := client.Do(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
			switch answer.StatusCode {
			case http.StatusCreated, http.StatusOK:
				registered.Add(1)
			case http.StatusTooManyRequests:
				refused.Add(1)
			}
		})
	}
}

// from dials from an address of loopback's network, as another client would.
func from(network, i int) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(network), byte(1+i))}, Timeout: 5 * time.Second}
}
