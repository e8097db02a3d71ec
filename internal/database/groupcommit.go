package database

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// GroupCommit lets concurrent callers share a transaction: while one is under way the next callers' items gather, and
// go together in the following one, which another committer may begin before the first has ended. Alone, a caller waits
// for nobody.
type GroupCommit[T any] struct {
	// items is unbuffered: an item that was sent has been taken by a committer, which answers it.
	items chan groupItem[T]
	max   int
	run   func(ctx context.Context, items []T) []error

	// turn has an element while a committer gathers. One gathers while the others commit: were all to gather at once,
	// each would get a part of what one transaction could hold.
	turn chan struct{}

	mu         sync.Mutex    // guards what follows
	committers int           // running
	expected   int           // the size that groups had of late
	took       time.Duration // the last transaction's time
	// stopping is closed when the first committer is told to stop: nothing new is taken. stopped is closed when the
	// last one has ended: what still waits is turned away.
	stopping, stopped chan struct{}
	stop, end         sync.Once
}

type groupItem[T any] struct {
	item T
	done chan error
}

// ErrStopped is the answer to what arrives after Run was told to stop.
var ErrStopped = fmt.Errorf("%w: stopping", push.ErrUnavailable)

// NewGroupCommit returns a GroupCommit whose transactions take up to most items. commit is called with at least one
// item and returns an error or nil for each, or a single-element slice that holds for all. It may not keep items.
func NewGroupCommit[T any](most int, commit func(ctx context.Context, items []T) []error) *GroupCommit[T] {
	return &GroupCommit[T]{
		items: make(chan groupItem[T]), max: most, run: commit,
		turn: make(chan struct{}, 1), stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
}

// Do hands over the item and waits until its transaction is committed or has failed. When ctx ends first Do returns at
// once, and the item may be committed all the same. Before Run has started Do waits for it.
func (g *GroupCommit[T]) Do(ctx context.Context, item T) error {
	select {
	case <-g.stopping:
		return ErrStopped
	default:
	}
	it := groupItem[T]{item, make(chan error, 1)}
	select {
	case g.items <- it:
	case <-ctx.Done():
		return ctx.Err()
	case <-g.stopped:
		return ErrStopped
	}
	select {
	case err := <-it.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run is one committer; several may run side by side, all ended by the same ctx. When ctx ends it commits what waits
// for it and returns; it is not to be run again.
func (g *GroupCommit[T]) Run(ctx context.Context) error {
	g.mu.Lock()
	g.committers++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.committers--; g.committers == 0 {
			g.end.Do(func() { close(g.stopped) })
		}
	}()
	group := make([]groupItem[T], 0, g.max)
	items := make([]T, 0, g.max)
	for {
		group = g.next(ctx, group)
		if len(group) == 0 {
			return nil
		}
		for _, it := range group {
			items = append(items, it.item)
		}
		// What was handed over is committed even while the service stops: its callers wait for the answer.
		begin := time.Now()
		errs := g.run(context.WithoutCancel(ctx), items)
		g.learn(len(group), time.Since(begin))
		for i, it := range group {
			it.done <- errs[min(i, len(errs)-1)]
		}
		clear(group)
		clear(items)
		group, items = group[:0], items[:0]
	}
}

// next fills the empty group for the next transaction; it stays empty when ctx has ended and nobody waits.
func (g *GroupCommit[T]) next(ctx context.Context, group []groupItem[T]) []groupItem[T] {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	select {
	case it := <-g.items:
		group = append(group, it)
	case <-ctx.Done():
		g.stop.Do(func() { close(g.stopping) })
	}
	// Whoever is about to hand over an item gets the chance to do so first: under load the groups are larger for it,
	// and where nobody else is about to run it takes no time.
	runtime.Gosched()
	group = g.gather(group)
	if len(group) > 0 {
		g.mu.Lock()
		expected, limit := g.expected, min(g.took/2, maxLinger)
		g.mu.Unlock()
		group = g.linger(group, expected, limit)
	}
	return group
}

// learn takes in how a transaction was.
func (g *GroupCommit[T]) learn(size int, took time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expected, g.took = max(size, g.expected*3/4), took
}

// maxLinger bounds what a caller waits for others.
const maxLinger = 2 * time.Millisecond

// linger waits a moment for a group to grow to the size of those before it, whose callers are on their way back:
// without it the first of them would have a transaction for itself, and all others wait for that. What is expected
// shrinks with each smaller group, to one: a caller alone waits for nobody.
func (g *GroupCommit[T]) linger(group []groupItem[T], expected int, limit time.Duration) []groupItem[T] {
	if len(group) >= expected || limit <= 0 {
		return group
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for len(group) < expected {
		select {
		case it := <-g.items:
			group = append(group, it)
		case <-timer.C:
			return g.gather(group)
		case <-g.stopping:
			return g.gather(group)
		}
	}
	return g.gather(group)
}

// gather takes what waits at this moment.
func (g *GroupCommit[T]) gather(group []groupItem[T]) []groupItem[T] {
	for len(group) < g.max {
		select {
		case it := <-g.items:
			group = append(group, it)
		default:
			return group
		}
	}
	return group
}
