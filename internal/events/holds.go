package events

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// Route is what one replica says of a route of an app.
type Route struct {
	App  string
	Name push.Route
	// Held says that nothing is sent that way until something is mended, or for longer than a moment, for Reason.
	Held           bool
	Reason, Remedy string
	// Taken grows with what the service takes or refuses of single recipients: then the route sends.
	Taken uint64
}

// Holds tells of routes that are held and that send again, once each, however many replicas find it out. The table
// holds has a row for each route that is held, with the replicas that hold it; the events are written where the first
// comes and where the last goes. What a replica held that is no more, any other ends that gets something through.
type Holds struct {
	store *Store
	// routes are this replica's; replicas are the ids of those that live, with this one's own, which is empty while it is
	// not one of them.
	routes   func() []Route
	replicas func(ctx context.Context) (self string, live []string, err error)
	// noticed has what each held route had taken when its row was seen first.
	noticed map[routeKey]uint64
	// begun says that rows have been looked for: those that were there before this process are noticed with nothing taken.
	begun bool
}

type routeKey struct {
	app   string
	route push.Route
}

// Holds returns what follows this replica's routes. It starts nothing: see Run.
func (s *Store) Holds(
	routes func() []Route, replicas func(ctx context.Context) (self string, live []string, err error),
) *Holds {
	return &Holds{store: s, routes: routes, replicas: replicas, noticed: map[routeKey]uint64{}}
}

// holdsInterval is how often the routes are looked at.
const holdsInterval = time.Second

// Run looks at the routes until ctx ends.
func (h *Holds) Run(ctx context.Context) error {
	ticker := time.NewTicker(holdsInterval)
	defer ticker.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := h.pass(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			h.store.log.Warn("routes that are held, or send again, are not told yet", "error", err)
		}
		failing = err != nil
	}
}

// held is a row of the table.
type held struct {
	App     string
	Route   push.Route
	Reason  string
	Remedy  string
	Holders string // the ids of replicas, separated by commas
}

func (r *held) holders() []string { return strings.Split(r.Holders, ",") }

func (h *Holds) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	var rows []held
	if err := h.store.db.Reader().SelectContext(ctx, &rows,
		"SELECT app, route, reason, remedy, holders FROM holds"); err != nil {
		return wrap(err, "read which routes are held")
	}
	all := map[routeKey]*held{}
	for i := range rows {
		all[routeKey{rows[i].App, rows[i].Route}] = &rows[i]
	}
	for k := range h.noticed {
		if all[k] == nil {
			delete(h.noticed, k)
		}
	}
	var self string
	var live []string
	for _, r := range h.routes() {
		k := routeKey{r.App, r.Name}
		row := all[k]
		if row == nil && !r.Held || !h.store.Wanted(r.App) {
			continue
		}
		if self == "" { // nearly always nothing is held
			var err error
			if self, live, err = h.replicas(ctx); err != nil || self == "" {
				return err // it is not counted yet, and what nobody holds would be told again
			}
		}
		if row != nil {
			taken, before := h.noticed[k]
			switch {
			case !before && !h.begun:
				h.noticed[k] = 0
			case !before || r.Taken < taken: // a route that took the place of another counts anew
				h.noticed[k] = r.Taken
			}
		}
		var err error
		switch {
		case r.Held && (row == nil || !slices.Contains(row.holders(), self)):
			err = h.hold(ctx, &r, self, live)
		case !r.Held && (r.Taken > h.noticed[k] || row.Reason == push.CredentialsUnusable.Text):
			// Whoever has credentials that can be used knows that without sending.
			err = h.release(ctx, row, self, live)
		}
		if err != nil {
			return err
		}
	}
	h.begun = true
	return nil
}

// hold adds this replica to those that hold the route, in place of those that are no more.
func (h *Holds) hold(ctx context.Context, r *Route, self string, live []string) error {
	s := h.store
	return wrap(s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		// The row, which is there from then on, keeps others out.
		if _, err := tx.ExecContext(ctx, "INSERT INTO holds (app, route, reason, remedy, holders) VALUES (?, ?, ?, ?, '')"+
			s.db.Dialect.Upsert("app, route"), r.App, string(r.Name), r.Reason, r.Remedy); err != nil {
			return err
		}
		row, err := s.lockHold(ctx, tx, r.App, r.Name)
		if err != nil {
			return err
		}
		holders := living(row, live, self)
		if _, err := tx.ExecContext(ctx, "UPDATE holds SET holders = ? WHERE app = ? AND route = ?",
			strings.Join(append(holders, self), ","), r.App, string(r.Name)); err != nil || row.Holders != "" {
			return err
		}
		w := s.Write(s.now())
		if err := w.Add(r.App, push.EventHeld, Held{string(r.Name), r.Reason, r.Remedy}); err != nil {
			return err
		}
		return w.Flush(ctx, tx)
	}), "tell that a route is held")
}

// release takes this replica, and those that are no more, from those that hold the route.
func (h *Holds) release(ctx context.Context, seen *held, self string, live []string) error {
	others := living(seen, live, self)
	if len(others) == len(seen.holders()) {
		return nil // they hold it, not this one
	}
	s := h.store
	return wrap(s.db.Tx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		row, err := s.lockHold(ctx, tx, seen.App, seen.Route)
		if err != nil || row == nil {
			return err
		}
		if others := living(row, live, self); len(others) > 0 {
			_, err := tx.ExecContext(ctx, "UPDATE holds SET holders = ? WHERE app = ? AND route = ?",
				strings.Join(others, ","), row.App, string(row.Route))
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM holds WHERE app = ? AND route = ?", row.App,
			string(row.Route)); err != nil {
			return err
		}
		w := s.Write(s.now())
		if err := w.Add(row.App, push.EventResumed, Held{string(row.Route), row.Reason, row.Remedy}); err != nil {
			return err
		}
		return w.Flush(ctx, tx)
	}), "tell that a route sends again")
}

// living are those of the row's holders that live, without self.
func living(row *held, live []string, self string) []string {
	return slices.DeleteFunc(row.holders(), func(id string) bool { return id == self || !slices.Contains(live, id) })
}

// lockHold reads the route's row, nil where there is none, and keeps others from it until the transaction ends.
func (s *Store) lockHold(ctx context.Context, tx *sqlx.Tx, app string, route push.Route) (*held, error) {
	row := new(held)
	err := tx.GetContext(ctx, row, "SELECT app, route, reason, remedy, holders FROM holds WHERE app = ? AND route = ?"+
		s.db.Dialect.ForUpdate(), app, string(route))
	if isNoRows(err) {
		return nil, nil
	}
	return row, err
}
