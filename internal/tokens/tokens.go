// Package tokens keeps the registry of device tokens (the DeviceTokenHandler of the system): all SQL on them is
// here, to register and refresh them, to keep their badges, to find an audience page by page, and to remove what is
// dead.
//
// It decides nothing about sending or about who may register, and knows neither notifications nor HTTP.
package tokens

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/quota"
)

// Store is the registry. Its methods can be called from many goroutines.
type Store struct {
	sandbox  sandboxApps
	db       *database.DB
	changes  *database.GroupCommit[*change]
	metrics  *metrics
	events   *events.Store
	counters *quota.Counters
	now      func() time.Time
	proving  bool
	// reading is how many pages of imports are still to be read first.
	reading atomic.Int32
	// tx is db.Tx, but for tests.
	tx func(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error
}

const (
	// maxGroup bounds the changes that share a transaction.
	maxGroup = 256
	// committers is how many such transactions run side by side on MySQL: one gathers while the other waits for the
	// server. SQLite has one writer.
	committers = 2
	// commitTimeout bounds such a transaction, with its repetitions: its callers' own contexts do not.
	commitTimeout = 15 * time.Second
)

// New returns the registry in db. Register, SetBadge and Delete wait until Run runs.
func New(db *database.DB, counters *quota.Counters, reg prometheus.Registerer) *Store {
	s := &Store{db: db, counters: counters, metrics: newMetrics(reg), now: time.Now, tx: db.Tx}
	s.changes = database.NewGroupCommit(maxGroup, s.commit)
	return s
}

// WithEvents has the removal and the replacement of tokens told. It is to be called before anything else.
func (s *Store) WithEvents(e *events.Store) *Store {
	s.events = e
	return s
}

// Run writes what callers change, until ctx ends; what waits then is still written.
func (s *Store) Run(ctx context.Context) error {
	n := committers
	if s.db.Dialect == database.SQLite {
		n = 1
	}
	var g errgroup.Group
	for range n {
		g.Go(func() error { return s.changes.Run(ctx) })
	}
	return g.Wait()
}

// Register stores a token, or refreshes it when it is known: last_updated becomes now, the badge the given one, and the
// fields that are given take their values while the others stay. It reports whether the token was new. Where another
// token of the app has the same device id, that token is removed: the device has got a new one. The registration's
// Bounds limit all of that. It is durable when it returns. It fails with push.ErrForbidden beyond the bounds, and with
// push.ErrQuota where the app has as many tokens as it may.
func (s *Store) Register(
	ctx context.Context, app string, r push.Registration,
) (device push.Device, created bool, err error) {
	c := &change{app: app, token: r.Token, register: &r}
	if err := s.changes.Do(ctx, c); err != nil {
		s.metrics.registrations.WithLabelValues("failed").Inc()
		s.counters.Refused(app, err)
		return push.Device{}, false, fmt.Errorf("register token: %w", err)
	}
	if c.forbidden {
		s.metrics.registrations.WithLabelValues("forbidden").Inc()
		return push.Device{}, false, push.ErrForbidden
	}
	if c.refused != nil {
		s.metrics.registrations.WithLabelValues("quota").Inc()
		s.counters.Refused(app, c.refused)
		return push.Device{}, false, fmt.Errorf("register token: %w", c.refused)
	}
	if c.device.Environment == push.Sandbox {
		s.sandbox.forget(app)
	}
	result := "refreshed"
	if c.created {
		result = "created"
	}
	s.metrics.registrations.WithLabelValues(result).Inc()
	return c.device, c.created, nil
}

// SetBadge stores the badge of a token; push.ErrNotFound where it is not registered.
func (s *Store) SetBadge(ctx context.Context, app string, t push.Token, badge uint32) error {
	c := &change{app: app, token: t, badge: badge}
	if err := s.changes.Do(ctx, c); err != nil {
		return fmt.Errorf("set badge: %w", err)
	}
	if !c.found {
		return push.ErrNotFound
	}
	return nil
}

// Delete removes a token; one that is not registered is no error.
func (s *Store) Delete(ctx context.Context, app string, t push.Token) error {
	if err := s.changes.Do(ctx, &change{app: app, token: t, remove: true}); err != nil {
		return fmt.Errorf("delete token: %w", err)
	}
	return nil
}

// Import stores a page of devices as they are given, in one transaction. What is stored already and was registered
// later than the given LastUpdated stays as it is, and so does a token that the same device, with the same user or
// also none, got later than one that is new here: an import made beside the running service must not turn it back. It
// fails with push.ErrQuota where the app would have more tokens than it may: then nothing of the page is stored.
func (s *Store) Import(ctx context.Context, app string, page []push.Device) error {
	defer s.metrics.time("import", time.Now())
	changes := make([]*change, len(page))
	for i := range page {
		d := page[i]
		d.LastUpdated, d.CreatedAt = d.LastUpdated.UTC().Truncate(time.Microsecond),
			d.CreatedAt.UTC().Truncate(time.Microsecond)
		changes[i] = &change{app: app, token: d.Token, put: &d}
	}
	if err := s.writeImport(ctx, changes); err != nil {
		s.counters.Refused(app, err)
		return fmt.Errorf("import tokens: %w", err)
	}
	if slices.ContainsFunc(page, func(d push.Device) bool { return d.Environment == push.Sandbox }) {
		s.sandbox.forget(app)
	}
	s.metrics.imported.Add(float64(len(page)))
	return nil
}

// Get returns one device; push.ErrNotFound where the token is not registered.
func (s *Store) Get(ctx context.Context, app string, t push.Token) (device push.Device, err error) {
	found := false
	var r row
	err = newStatement("SELECT token, "+deviceColumns+" FROM device_tokens WHERE").add(" app = ? AND token = ?", app,
		[]byte(t)).
		query(ctx, s.db.Reader(), r.deviceDest(), func() (err error) {
			found = true
			device = r.device()
			return nil
		})
	if err != nil {
		return push.Device{}, fmt.Errorf("read token: %w", database.MarkUnavailable(err))
	}
	if !found {
		return push.Device{}, push.ErrNotFound
	}
	return device, nil
}

// List returns up to limit devices of the filter whose tokens come after after, in the tokens' order, and the token
// after which the next page goes on; it is empty after the last page. A page of those that are idle looks at a bounded
// number of tokens, as there is no index by time: it is short, even empty, where few of them are.
func (s *Store) List(
	ctx context.Context, app string, filter push.DeviceFilter, after push.Token, limit int,
) (devices []push.Device, next push.Token, err error) {
	sel := selection{
		app: app, columns: deviceColumns, anyKind: true, environment: filter.Environment, userID: filter.UserID,
		idleBefore: filter.IdleBefore,
	}
	if filter.Platform != "" {
		sel.platforms = []string{filter.Platform}
	}
	if !filter.IdleBefore.IsZero() {
		sel.scan = maxScan
	}
	if filter.UserID != "" {
		sel.lists = append(sel.lists, tokenList{kindUser, []string{filter.UserID}})
	}
	if filter.Tag != "" {
		sel.lists = append(sel.lists, tokenList{kindTag, []string{filter.Tag}})
		sel.tags = &push.Tags{All: []string{filter.Tag}}
	}
	sel.addEnvironment()
	var r row
	next, err = sel.each(ctx, s.db.Reader(), &r, r.deviceDest(), after, limit, func() error {
		devices = append(devices, r.device())
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("list tokens: %w", database.MarkUnavailable(err))
	}
	return devices, next, nil
}

// Addresses returns what is stored of the tokens' addresses; those that have none, or are not registered, are not in
// it.
func (s *Store) Addresses(ctx context.Context, app string, tokens []push.Token) (map[push.Token][]byte, error) {
	addresses := make(map[push.Token][]byte, len(tokens))
	var r row
	for run := range slices.Chunk(tokens, maxRows) {
		err := newStatement("SELECT token, address FROM device_tokens WHERE app = ? AND token IN").add("", app).
			list(len(run), func(i int) any { return []byte(run[i]) }).
			query(ctx, s.db.Reader(), []any{&r.token, &r.address}, func() error {
				if r.address != nil {
					addresses[push.Token(r.token)] = slices.Clone([]byte(r.address))
				}
				return nil
			})
		if err != nil {
			return nil, fmt.Errorf("read addresses: %w", database.MarkUnavailable(err))
		}
	}
	return addresses, nil
}

// exportPage is the number of devices that Export holds at a time.
const exportPage = 1000

// Export calls fn for every device of the app, in the tokens' order. Devices registered or removed meanwhile may be
// missed or told.
func (s *Store) Export(ctx context.Context, app string, fn func(push.Device) error) error {
	var after push.Token
	for {
		page, next, err := s.List(ctx, app, push.DeviceFilter{}, after, exportPage)
		if err != nil {
			return err
		}
		for _, d := range page {
			if err := fn(d); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

// commit is a group's transaction.
func (s *Store) commit(ctx context.Context, group []*change) []error {
	defer s.metrics.time("write", time.Now())
	s.metrics.group.Observe(float64(len(group)))
	ctx, cancel := context.WithTimeoutCause(ctx, commitTimeout, fmt.Errorf("%w: the database does not answer",
		push.ErrUnavailable))
	defer cancel()
	err := s.write(ctx, group)
	if err == nil || len(group) == 1 || errors.Is(err, push.ErrUnavailable) || ctx.Err() != nil {
		return []error{err}
	}
	// One that the database refuses must not take the others with it.
	errs := make([]error, len(group))
	for i, c := range group {
		errs[i] = s.write(ctx, []*change{c})
	}
	return errs
}

// errKnown says that some of the tokens that were taken for new are not.
var errKnown = errors.New("tokens are registered already")

// readingPages is how many pages of imports are read before they are written after one that had known tokens.
const readingPages = 16

// writeImport makes an import's changes. Most imports are of new tokens, which need not be looked for: that they are
// new is known when they are inserted.
func (s *Store) writeImport(ctx context.Context, changes []*change) error {
	if s.reading.Add(-1) < 0 {
		s.reading.Store(0)
		err := s.writeAs(ctx, changes, true)
		if !errors.Is(err, errKnown) {
			return err
		}
		s.reading.Store(readingPages)
	}
	return s.write(ctx, changes)
}

// write makes the changes in one transaction. Where nobody knows whether that was committed they are made again: none
// does harm when it is repeated.
func (s *Store) write(ctx context.Context, changes []*change) error {
	return s.writeAs(ctx, changes, false)
}

// writeAs is write, or with fresh fails with errKnown where one of the changes' own tokens is stored already.
func (s *Store) writeAs(ctx context.Context, changes []*change, fresh bool) error {
	var growth growth
	defer growth.release(s.counters)
	fn := func(ctx context.Context, tx *sqlx.Tx) error {
		growth.release(s.counters) // of an attempt before
		return s.apply(ctx, tx, changes, fresh, &growth)
	}
	err := s.tx(ctx, fn)
	if errors.Is(err, database.ErrCommitUnknown) {
		err = s.tx(ctx, fn)
	}
	if err == nil {
		s.counters.Committed(&growth.counts)
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}
