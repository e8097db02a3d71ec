package sender

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/queue"
)

// routes are the routes there are at one time. It is never changed, but replaced.
type routes struct {
	byOutlet map[queue.Outlet]*route
	// byApp has each app's routes by their names. Audiences of all routes are expanded by the first that has room.
	byApp map[string][]*route
}

func newRoutes(byOutlet map[queue.Outlet]*route) *routes {
	all := &routes{byOutlet: byOutlet, byApp: map[string][]*route{}}
	for outlet, r := range byOutlet {
		all.byApp[outlet.App] = append(all.byApp[outlet.App], r)
	}
	for _, of := range all.byApp {
		slices.SortFunc(of, func(a, b *route) int { return cmp.Compare(a.name, b.name) })
	}
	return all
}

// of is the route that the batch goes, nil where there is none.
func (rs *routes) of(b *queue.Batch) *route {
	if of := rs.byApp[b.App]; b.Route == "" && len(of) > 0 {
		return of[max(0, slices.IndexFunc(of, (*route).hasRoom))]
	}
	return rs.byOutlet[queue.Outlet{App: b.App, Route: b.Route}]
}

// phase is how far Run is.
type phase uint8

const (
	beforeRun phase = iota
	running
	ending
)

// retireLimit bounds how long a route that is gone or replaced waits for the results of what it has in flight. There is
// no hurry: what has none by then is sent again. When the sender ends it is Config.Drain.
const retireLimit = 2 * time.Minute

// SetRoutes adds the routes, each in the place of the one there was for its outlet, and takes those away that are nil.
// It may be called before and while Run runs. A route that goes sends nothing any more from then on: what waited is
// sent by the one in its place, or stays in the queue; what is in flight gets its results. What the answers of the
// former one said of the app's device tokens is remembered.
func (s *Sender) SetRoutes(changes map[queue.Outlet]*RouteConfig) error {
	for outlet, c := range changes {
		if c != nil && c.Transport == nil {
			return fmt.Errorf("sender: route %q of app %q has no transport", outlet.Route, outlet.App)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == ending || len(changes) == 0 {
		return nil
	}
	all := maps.Clone(s.routes.Load().byOutlet)
	if all == nil {
		all = map[queue.Outlet]*route{}
	}
	var gone []*runner
	for outlet, c := range changes {
		if old := s.runners[outlet]; old != nil {
			gone = append(gone, old)
			delete(s.runners, outlet)
		}
		if c == nil {
			delete(all, outlet)
			continue
		}
		known := newShare()
		if old := all[outlet]; old != nil {
			known = old.share
		}
		all[outlet] = newRoute(s, outlet, c.withDefaults(), known)
	}
	s.routes.Store(newRoutes(all))
	for outlet, c := range changes {
		if c != nil && s.phase == running {
			s.runners[outlet] = newRunner(all[outlet])
		}
	}
	for _, r := range gone {
		s.retiring.Go(func() { s.retire(r) })
	}
	s.reader.rewindAll() // what waited for a route that is new
	return nil
}

// startRoutes runs the routes there are, and those that come.
func (s *Sender) startRoutes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = running
	for outlet, r := range s.routes.Load().byOutlet {
		s.runners[outlet] = newRunner(r)
	}
}

// lastRoutes are those that run when the sender ends. None comes or goes after them.
func (s *Sender) lastRoutes() []*runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = ending
	close(s.stopping)
	return slices.Collect(maps.Values(s.runners))
}

// retire ends a route that is gone or replaced.
func (s *Sender) retire(r *runner) {
	r.stopFinding()
	r.retire()
	s.reader.rewindAll()
	ctx, cancel := context.WithTimeout(context.Background(), retireLimit)
	defer cancel()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		r.drain(ctx)
	}()
	select {
	case <-drained:
	case <-s.stopping:
		hurry := time.AfterFunc(s.cfg.Drain, cancel)
		<-drained
		hurry.Stop()
	}
	r.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if outlet := (queue.Outlet{App: r.app, Route: r.name}); s.routes.Load().byOutlet[outlet] == nil {
		s.metrics.forget(outlet)
	}
}

// runner runs a route: what finds and sends, and the transport. It is ended in these steps: stopFinding, drain, stop.
type runner struct {
	*route
	finding, sending sync.WaitGroup
	endFinding, end  context.CancelFunc
}

func newRunner(r *route) *runner {
	find, endFinding := context.WithCancel(context.Background())
	send, end := context.WithCancel(context.Background())
	run := &runner{route: r, endFinding: endFinding, end: end}
	run.sending.Go(func() {
		if err := r.cfg.Transport.Run(send); err != nil && send.Err() == nil {
			r.log.Error("transport ended", "error", err)
		}
	})
	d := dispatcher{r}
	run.finding.Go(func() { d.run(find, d.urgent, r.wakeUrgent) })
	run.finding.Go(func() { d.run(find, d.bulk, r.wakeBulk) })
	run.finding.Go(func() { expander{r}.run(find) })
	run.finding.Go(func() { sweeper{r}.run(find) })
	return run
}

// stopFinding has nothing more sent.
func (r *runner) stopFinding() {
	r.endFinding()
	r.finding.Wait()
}

// drain waits for the results of what is in flight, as long as ctx lasts.
func (r *runner) drain(ctx context.Context) {
	if err := r.cfg.Transport.Drain(ctx); err != nil {
		r.log.Warn("not all results came in time; what has none is sent again later", "error", err)
	}
}

// stop ends the transport, and settles what has results.
func (r *runner) stop() {
	r.end()
	r.sending.Wait()
	r.route.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backlog.forgetAll()
}

// each calls f for all of them at once, and waits.
func each(runners []*runner, f func(*runner)) {
	var wg sync.WaitGroup
	for _, r := range runners {
		wg.Go(func() { f(r) })
	}
	wg.Wait()
}
