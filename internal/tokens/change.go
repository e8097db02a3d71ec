package tokens

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// change is what one caller wants done to one token: exactly one of register, put, remove, or else the badge set.
type change struct {
	app      string
	token    push.Token
	register *push.Registration
	put      *push.Device
	remove   bool
	badge    uint32

	// What came of it, good once it is committed.
	device  push.Device
	created bool
	found   bool
	// forbidden says that it was not made: it goes beyond its registration's bounds.
	forbidden bool
	// refused is why it was not made: the app has as many tokens as it may.
	refused error
}

type key struct {
	app   string
	token push.Token
}

// record is a token in the course of a transaction: as it is stored, and as it shall be.
type record struct {
	key
	stored, wanted push.Device
	// exists says whether there is a stored device, and remains whether there is a wanted one.
	exists, remains bool
	// replaced says that the device has got another token.
	replaced bool
	// by is that other token, where it is replaced.
	by push.Token
	// unproven says that it is removed because it was never accepted.
	unproven bool
	// imported says that wanted is of an import, and so of its own time and not of now.
	imported bool
}

// transaction is the work of one. The rows it is about are read, and locked, once; the changes are made to them in
// memory, one after the other in the order of their arrival; then what differs is written, with few statements for many
// rows, always in the order of the keys, so that transactions side by side do not deadlock.
type transaction struct {
	store   *Store
	tx      *sqlx.Tx
	now     time.Time
	records map[key]*record
	sorted  []*record
	growth  *growth
	// fresh says that the changes' own tokens are taken for new, and not looked for.
	fresh bool
	// devices has those among the records that have, or had, each device id; moved has the device ids that came with
	// another token than before.
	devices map[deviceKey][]*record
	moved   map[deviceKey]move
}

type deviceKey struct{ app, device string }

// move is how a device came with another token: by a registration that takes its place from any other, as imports tell
// it of some time, or by registrations whose bounds say from which others they take it.
type move struct {
	outright bool
	imports  map[string]time.Time // by the imported tokens' user, empty for none: the latest time
	bounds   []*push.Bounds
}

// mayReplace reports whether a token that is stored elsewhere loses the device.
func (m *move) mayReplace(stored *push.Device) (bool, error) {
	if m.outright || slices.ContainsFunc(m.bounds, func(b *push.Bounds) bool { return b.Proves(stored) }) {
		return true, nil
	}
	at, contends := m.imports[stored.UserID]
	if contends && at.Before(stored.LastUpdated) {
		return false, fmt.Errorf("a device was registered elsewhere since it was looked for: %w", database.ErrLostRace)
	}
	return contends, nil
}

func (s *Store) apply(ctx context.Context, tx *sqlx.Tx, changes []*change, fresh bool, growth *growth) error {
	w := transaction{store: s, tx: tx, growth: growth, fresh: fresh, now: s.now().UTC().Truncate(time.Microsecond),
		records: make(map[key]*record, len(changes))}
	for _, c := range changes {
		k := key{c.app, c.token}
		if w.records[k] == nil {
			w.add(&record{key: k})
		}
		if c.register != nil && c.register.Replaces != "" {
			if k.token = c.register.Replaces; w.records[k] == nil {
				w.add(&record{key: k})
			}
		}
	}
	own := len(w.sorted)
	if err := w.addHolders(ctx, changes); err != nil {
		return fmt.Errorf("look for the tokens that devices have: %w", err)
	}
	wanted := w.sorted
	if fresh {
		wanted = slices.Clone(w.sorted[own:])
	}
	slices.SortFunc(w.sorted, func(a, b *record) int { return compareKeys(a.key, b.key) })
	slices.SortFunc(wanted, func(a, b *record) int { return compareKeys(a.key, b.key) })
	if err := w.load(ctx, wanted); err != nil {
		return fmt.Errorf("read stored tokens: %w", err)
	}
	for _, c := range changes {
		w.change(c, w.records[key{c.app, c.token}])
	}
	if err := w.contend(ctx); err != nil {
		return fmt.Errorf("contend for devices: %w", err)
	}
	if err := w.write(ctx, w.sorted); err != nil {
		return err
	}
	if err := w.replace(ctx); err != nil {
		return err
	}
	if err := growth.reserveRest(s.counters); err != nil {
		return err
	}
	return s.counters.Write(ctx, tx, &growth.counts)
}

func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.token, b.token))
}

func (w *transaction) add(e *record) {
	w.records[e.key] = e
	w.sorted = append(w.sorted, e)
}

// addHolders adds the tokens that imported devices have now: which of a device's tokens is the later one is to be known
// before a change is made. Nothing is locked yet; replace sees whom this misses.
func (w *transaction) addHolders(ctx context.Context, changes []*change) error {
	var devices []deviceKey
	for _, c := range changes {
		if c.put == nil {
			continue
		}
		if slot := c.put.Slot(); slot != "" {
			devices = append(devices, deviceKey{c.app, slot})
		}
	}
	return w.holders(ctx, devices, "", func(d deviceKey, t push.Token) {
		if k := (key{d.app, t}); w.records[k] == nil {
			w.add(&record{key: k})
		}
	})
}

// holders finds the tokens that are stored of the devices, which it sorts. tail is put behind each query.
func (w *transaction) holders(
	ctx context.Context, devices []deviceKey, tail string, found func(deviceKey, push.Token),
) error {
	slices.SortFunc(devices, func(a, b deviceKey) int {
		return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.device,
			b.device))
	})
	for devices = slices.Compact(devices); len(devices) > 0; {
		app, n := devices[0].app, 1
		for n < len(devices) && n < maxRows && devices[n].app == app {
			n++
		}
		var device, token []byte
		s := newStatement("SELECT value, token FROM device_token_index WHERE app = ? AND kind = ? AND value IN").add("",
			app, kindDevice).
			list(n, func(i int) any { return []byte(devices[i].device) }).add(tail)
		err := s.query(ctx, w.tx, []any{&device, &token}, func() error {
			found(deviceKey{app, string(device)}, push.Token(token))
			return nil
		})
		if err != nil {
			return err
		}
		devices = devices[n:]
	}
	return nil
}

// byApp splits what is sorted by key into runs of one app and at most maxRows.
func byApp(sorted []*record) func(yield func(app string, run []*record) bool) {
	return func(yield func(string, []*record) bool) {
		for len(sorted) > 0 {
			app, n := sorted[0].app, 1
			for n < len(sorted) && n < maxRows && sorted[n].app == app {
				n++
			}
			if !yield(app, sorted[:n]) {
				return
			}
			sorted = sorted[n:]
		}
	}
}

// load reads what is stored of the records, and locks it.
func (w *transaction) load(ctx context.Context, sorted []*record) error {
	var r row
	dest := r.deviceDest()
	for app, run := range byApp(sorted) {
		s := newStatement("SELECT token, "+deviceColumns+" FROM device_tokens WHERE app = ? AND token IN").add("", app).
			list(len(run), func(i int) any { return []byte(run[i].token) }).add(w.store.forUpdate())
		err := s.query(ctx, w.tx, dest, func() error {
			d := r.device()
			e := w.records[key{app, d.Token}]
			e.stored, e.wanted, e.exists, e.remains = d, d, true, true
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, e := range sorted {
		w.holds(e)
	}
	return nil
}

// change makes c in memory.
func (w *transaction) change(c *change, e *record) {
	c.found, c.created, c.forbidden, c.refused = e.remains, false, false, nil
	before, user := e.slot(), e.wanted.UserID
	switch {
	case c.register != nil:
		if c.forbidden = e.remains && forbids(c.register, &e.wanted); c.forbidden {
			return
		}
		if !e.remains && !w.takesPlace(c) {
			if c.refused = w.growth.reserve(w.store.counters, c.app); c.refused != nil {
				return
			}
		}
		c.created, e.imported = !e.remains, false
		if c.created {
			e.wanted = push.Device{Token: e.token, Environment: c.register.DefaultEnvironment, CreatedAt: w.now}
		}
		update(&e.wanted, c.register)
		if old := w.records[key{c.app, c.register.Replaces}]; old != nil && old != e && old.remains {
			old.remains, old.replaced, old.by = false, true, e.token
		}
		if e.wanted.LastUpdated.Before(w.now) { // the clock of another replica may be ahead
			e.wanted.LastUpdated = w.now
		}
		e.remains = true
	case c.put != nil:
		if !e.remains || !c.put.LastUpdated.Before(e.wanted.LastUpdated) {
			e.wanted, e.remains, e.imported = *c.put, true, true
		}
	case c.remove:
		e.remains = false
	case e.remains:
		e.wanted.Badge = c.badge
	}
	c.device = e.wanted
	if !e.remains {
		return
	}
	e.replaced = false
	// A token that had the device before takes it from none: others may have it rightly, too, beside it. But one that an
	// import gives another user has others to contend with.
	if slot := e.slot(); slot != "" && (slot != before || c.put != nil && e.wanted.UserID != user) {
		var bounds *push.Bounds
		if c.register != nil {
			bounds = c.register.Bounds
		}
		w.claim(e, bounds)
	}
}

// takesPlace reports whether the new token may take another's place, which is known for certain when the devices' other
// tokens have been looked for.
func (w *transaction) takesPlace(c *change) bool {
	r := c.register
	if old := w.records[key{c.app, r.Replaces}]; r.Replaces != "" && old != nil && old.remains {
		return true
	}
	return r.DeviceID != nil && *r.DeviceID != "" && (r.Bounds == nil || r.Bounds.User != "")
}

// forbids reports whether the registration goes beyond its bounds with a device that is stored.
func forbids(r *push.Registration, d *push.Device) bool {
	if r.Bounds == nil || d.UserID == "" || r.Bounds.Proves(d) {
		return false
	}
	differs := func(given *string, stored string) bool { return given != nil && *given != stored }
	return r.Environment != "" && r.Environment != d.Environment || r.Kind != nil && *r.Kind != d.Kind ||
		differs(r.KindOf, d.KindOf) || differs(r.UserID, d.UserID)
}

// slot is that which the record has now; empty where it has none.
func (e *record) slot() string {
	if !e.remains {
		return ""
	}
	return e.wanted.Slot()
}

// contends reports whether the record, which is imported, and other may not both have one device. Of tokens with
// different users, and of one with a user and one without, nothing tells whose the device is: whoever knows a device id
// can register an invented token with it.
func (e *record) contends(other *push.Device) bool { return e.wanted.UserID == other.UserID }

// outdated says that the record is imported and that other, of the same device, was registered later.
func (e *record) outdated(other *push.Device) bool {
	return e.imported && e.remains && e.wanted.LastUpdated.Before(other.LastUpdated)
}

// update applies a registration's fields to the device.
func update(d *push.Device, r *push.Registration) {
	d.Badge = r.Badge
	if r.Environment != "" {
		d.Environment = r.Environment
	}
	if r.Address != nil {
		d.Address = r.Address
	}
	if r.Kind != nil {
		d.Kind = *r.Kind
	}
	if r.Tags != nil {
		d.Tags = ownTags(d.Tags, r)
	}
	for _, f := range [...]struct {
		to   *string
		from *string
	}{
		{&d.KindOf, r.KindOf}, {&d.UserID, r.UserID}, {&d.DeviceID, r.DeviceID}, {&d.AppVersion, r.AppVersion},
		{&d.OSVersion, r.OSVersion}, {&d.DeviceModel, r.DeviceModel}, {&d.Locale, r.Locale}, {&d.TimeZone, r.TimeZone},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
}

// ownTags are the registration's tags, with those of the stored ones that are not the caller's to remove.
func ownTags(stored []string, r *push.Registration) []string {
	tags := *r.Tags
	if r.Bounds != nil && r.Bounds.OwnTag != nil {
		kept := slices.DeleteFunc(slices.Clone(stored), r.Bounds.OwnTag)
		tags = append(kept, tags[:min(len(tags), max(push.MaxTags-len(kept), 0))]...)
	}
	if len(tags) == 0 {
		return nil // as it is read back
	}
	return tags
}
