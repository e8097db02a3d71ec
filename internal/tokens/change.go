package tokens

import (
	"cmp"
	"context"
	"fmt"
	"maps"
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
}

type key struct {
	app   string
	token push.Token
}

// entry is a token in the course of a transaction: as it is stored, and as it shall be.
type entry struct {
	key
	stored, wanted push.Device
	// exists says whether there is a stored device, and remains whether there is a wanted one.
	exists, remains bool
	// replaced says that the device has got another token.
	replaced bool
	// imported says that wanted is of an import, and so of its own time and not of now.
	imported bool
}

// unit is one transaction's work. The rows it is about are read, and locked, once; the changes are made to them in memory, one
// after the other in the order of their arrival; then what differs is written, with few statements for many rows, always in
// the order of the keys, so that transactions side by side do not deadlock.
type unit struct {
	store   *Store
	tx      *sqlx.Tx
	now     time.Time
	entries map[key]*entry
	sorted  []*entry
	// devices has the one among the entries that has, or last had, each device id; moved has the device ids that came with
	// another token than before.
	devices map[deviceKey]*entry
	moved   map[deviceKey]move
}

type deviceKey struct{ app, device string }

// move is how a device came with another token: by a registration, or as an import tells it of some time.
type move struct {
	imported bool
	at       time.Time
}

func (s *Store) apply(ctx context.Context, tx *sqlx.Tx, changes []*change) error {
	u := unit{store: s, tx: tx, now: s.now().UTC().Truncate(time.Microsecond), entries: make(map[key]*entry, len(changes))}
	for _, c := range changes {
		k := key{c.app, c.token}
		if u.entries[k] == nil {
			u.add(&entry{key: k})
		}
	}
	if err := u.addHolders(ctx, changes); err != nil {
		return fmt.Errorf("look for the tokens that devices have: %w", err)
	}
	slices.SortFunc(u.sorted, func(a, b *entry) int { return compareKeys(a.key, b.key) })
	if err := u.load(ctx, u.sorted); err != nil {
		return fmt.Errorf("read stored tokens: %w", err)
	}
	for _, c := range changes {
		u.change(c, u.entries[key{c.app, c.token}])
	}
	if err := u.write(ctx, u.sorted); err != nil {
		return err
	}
	return u.replace(ctx)
}

func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.token, b.token))
}

func (u *unit) add(e *entry) {
	u.entries[e.key] = e
	u.sorted = append(u.sorted, e)
}

// addHolders adds the tokens that imported devices have now: which of a device's tokens is the later one is to be known before a
// change is made. Nothing is locked yet; replace sees whom this misses.
func (u *unit) addHolders(ctx context.Context, changes []*change) error {
	var devices []deviceKey
	for _, c := range changes {
		if c.put == nil {
			continue
		}
		if slot := slotOf(c.put); slot != "" {
			devices = append(devices, deviceKey{c.app, slot})
		}
	}
	return u.holders(ctx, devices, "", func(d deviceKey, t push.Token) {
		if k := (key{d.app, t}); u.entries[k] == nil {
			u.add(&entry{key: k})
		}
	})
}

// holders finds the tokens that are stored of the devices, which it sorts. tail is put behind each query.
func (u *unit) holders(ctx context.Context, devices []deviceKey, tail string, found func(deviceKey, push.Token)) error {
	slices.SortFunc(devices, func(a, b deviceKey) int { return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.device, b.device)) })
	for devices = slices.Compact(devices); len(devices) > 0; {
		app, n := devices[0].app, 1
		for n < len(devices) && n < maxRows && devices[n].app == app {
			n++
		}
		var device, token []byte
		s := newStatement("SELECT value, token FROM device_token_index WHERE app = ? AND kind = ? AND value IN").add("", app, kindDevice).
			list(n, func(i int) any { return []byte(devices[i].device) }).add(tail)
		err := s.query(ctx, u.tx, []any{&device, &token}, func() error {
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
func byApp(sorted []*entry) func(yield func(app string, run []*entry) bool) {
	return func(yield func(string, []*entry) bool) {
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

// load reads what is stored of the entries, and locks it.
func (u *unit) load(ctx context.Context, sorted []*entry) error {
	var r row
	dest := r.deviceDest()
	for app, run := range byApp(sorted) {
		s := newStatement("SELECT token, "+deviceColumns+" FROM device_tokens WHERE app = ? AND token IN").add("", app).
			list(len(run), func(i int) any { return []byte(run[i].token) }).add(u.store.forUpdate())
		err := s.query(ctx, u.tx, dest, func() error {
			d, err := r.device()
			if err != nil {
				return err
			}
			e := u.entries[key{app, d.Token}]
			e.stored, e.wanted, e.exists, e.remains = d, d, true, true
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, e := range sorted {
		if slotOf(&e.stored) != "" {
			u.holds(e)
		}
	}
	return nil
}

// change makes c in memory.
func (u *unit) change(c *change, e *entry) {
	c.found, c.created = e.remains, false
	switch {
	case c.register != nil:
		c.created, e.imported = !e.remains, false
		if c.created {
			e.wanted = push.Device{Token: e.token, Environment: c.register.DefaultEnvironment, CreatedAt: u.now}
		}
		update(&e.wanted, c.register)
		if e.wanted.LastUpdated.Before(u.now) { // the clock of another replica may be ahead
			e.wanted.LastUpdated = u.now
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
	e.replaced = false
	c.device = e.wanted
	u.claim(e)
}

// claim gives the entry's device to it, and takes it from the one that had it. But what an import tells of the time before that
// one was registered is the token that it has replaced.
func (u *unit) claim(e *entry) {
	id := slotOf(&e.wanted)
	if !e.remains || id == "" {
		return
	}
	k := deviceKey{e.app, id}
	other := u.devices[k]
	if other == e {
		return
	}
	if other != nil && other.has(id) {
		if e.outdated(&other.wanted) {
			e.remains, e.replaced = false, true
			return
		}
		other.remains, other.replaced = false, true
	}
	u.holds(e)
	if !e.exists || slotOf(&e.stored) != id || other != nil {
		u.moves(k, e)
	}
}

func (u *unit) moves(k deviceKey, e *entry) {
	if u.moved == nil {
		u.moved = map[deviceKey]move{}
	}
	before, again := u.moved[k]
	switch {
	case !e.imported:
		u.moved[k] = move{}
	case !again || before.imported && before.at.Before(e.wanted.LastUpdated):
		u.moved[k] = move{imported: true, at: e.wanted.LastUpdated}
	}
}

func (u *unit) holds(e *entry) {
	if u.devices == nil {
		u.devices = map[deviceKey]*entry{}
	}
	u.devices[deviceKey{e.app, slotOf(&e.wanted)}] = e
}

func (e *entry) has(slot string) bool { return e.remains && slotOf(&e.wanted) == slot }

// outdated says that the entry is imported and that other, of the same device, was registered later.
func (e *entry) outdated(other *push.Device) bool {
	return e.imported && e.remains && e.wanted.LastUpdated.Before(other.LastUpdated)
}

// update applies a registration's fields to the device.
func update(d *push.Device, r *push.Registration) {
	d.Badge = r.Badge
	if r.Environment != "" {
		d.Environment = r.Environment
	}
	if r.Kind != nil {
		d.Kind = *r.Kind
	}
	if r.Tags != nil {
		d.Tags = *r.Tags
		if len(d.Tags) == 0 {
			d.Tags = nil // as it is read back
		}
	}
	for _, f := range [...]struct {
		to   *string
		from *string
	}{
		{&d.KindOf, r.KindOf}, {&d.UserID, r.UserID}, {&d.DeviceID, r.DeviceID}, {&d.AppVersion, r.AppVersion}, {&d.OSVersion, r.OSVersion},
		{&d.DeviceModel, r.DeviceModel}, {&d.Locale, r.Locale}, {&d.TimeZone, r.TimeZone},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
}

// touch is the common change of a known token: another badge and perhaps another time, nothing else. The tokens with the same one
// share a statement.
type touch struct {
	app     string
	badge   uint32
	updated time.Time // zero: stays
}

// maxTouches bounds those statements; what else there is goes into the upsert.
const maxTouches = 4

// write writes what differs.
func (u *unit) write(ctx context.Context, sorted []*entry) error {
	var inserts, upserts, removals []*entry
	var drop, put []indexRow
	touches := map[touch][]*entry{}
	for _, e := range sorted {
		switch {
		case !e.exists && !e.remains:
		case !e.exists:
			inserts = append(inserts, e)
			put = appendIndex(put, e.app, &e.wanted)
		case !e.remains:
			removals = append(removals, e)
			drop = appendIndex(drop, e.app, &e.stored)
		case e.onlyTouched():
			t := touch{app: e.app, badge: e.wanted.Badge}
			if !e.wanted.LastUpdated.Equal(e.stored.LastUpdated) {
				t.updated = e.wanted.LastUpdated
			} else if e.wanted.Badge == e.stored.Badge {
				continue
			}
			if touches[t] == nil && len(touches) == maxTouches {
				upserts = append(upserts, e)
			} else {
				touches[t] = append(touches[t], e)
			}
		default:
			upserts = append(upserts, e)
			if !sameIndex(&e.stored, &e.wanted) {
				drop, put = diffIndex(drop, put, e)
			}
		}
	}
	if err := u.insert(ctx, inserts, ""); err != nil {
		if database.IsDuplicate(err) { // it was registered elsewhere since it was looked for
			err = fmt.Errorf("%w: %w", database.ErrLostRace, err)
		}
		return fmt.Errorf("insert tokens: %w", err)
	}
	for _, t := range slices.SortedFunc(keys(touches), compareTouches) {
		if err := u.touch(ctx, t, touches[t]); err != nil {
			return fmt.Errorf("refresh tokens: %w", err)
		}
	}
	if err := u.insert(ctx, upserts, u.store.db.Dialect.Upsert("app, token", columnNames...)); err != nil {
		return fmt.Errorf("update tokens: %w", err)
	}
	for app, run := range byApp(removals) {
		_, err := newStatement("DELETE FROM device_tokens WHERE app = ? AND token IN").add("", app).
			list(len(run), func(i int) any { return []byte(run[i].token) }).exec(ctx, u.tx)
		if err != nil {
			return fmt.Errorf("remove tokens: %w", err)
		}
		for _, e := range run {
			source := removedByRequest
			if e.replaced {
				source = removedReplaced
			}
			u.store.metrics.removals.WithLabelValues(source).Inc()
		}
	}
	if err := deleteIndex(ctx, u.tx, drop); err != nil {
		return err
	}
	return u.store.insertIndex(ctx, u.tx, put)
}

func keys(touches map[touch][]*entry) func(yield func(touch) bool) {
	return func(yield func(touch) bool) {
		for t := range touches {
			if !yield(t) {
				return
			}
		}
	}
}

func compareTouches(a, b touch) int {
	return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.badge, b.badge), a.updated.Compare(b.updated))
}

func (e *entry) onlyTouched() bool {
	a, b := &e.stored, &e.wanted
	return a.Environment == b.Environment && a.CreatedAt.Equal(b.CreatedAt) && a.UserID == b.UserID && a.DeviceID == b.DeviceID &&
		a.Kind == b.Kind && a.KindOf == b.KindOf && slices.Equal(a.Tags, b.Tags) && a.AppVersion == b.AppVersion && a.OSVersion == b.OSVersion && a.DeviceModel == b.DeviceModel &&
		a.Locale == b.Locale && a.TimeZone == b.TimeZone
}

func (u *unit) insert(ctx context.Context, entries []*entry, tail string) error {
	for run := range statementsOf(entries, func(e *entry) int { return deviceSize(&e.wanted) }) {
		s := newStatement("INSERT INTO device_tokens (app, token, " + deviceColumns + ") VALUES ")
		for i, e := range run {
			if i > 0 {
				s.add(",")
			}
			s.add(deviceRow)
			var err error
			if s.args, err = appendDevice(s.args, e.app, &e.wanted); err != nil {
				return err
			}
		}
		if _, err := s.add(tail).exec(ctx, u.tx); err != nil {
			return err
		}
	}
	return nil
}

func (u *unit) touch(ctx context.Context, t touch, entries []*entry) error {
	for run := range slices.Chunk(entries, maxRows) {
		s := newStatement("UPDATE device_tokens SET badge = ?").add("", int64(t.badge))
		if !t.updated.IsZero() {
			s.add(", last_updated = ?", database.Time{Time: t.updated})
		}
		_, err := s.add(" WHERE app = ? AND token IN", t.app).
			list(len(run), func(i int) any { return []byte(run[i].token) }).exec(ctx, u.tx)
		if err != nil {
			return err
		}
	}
	return nil
}

// replace removes the other tokens of the devices that have come with a new one. It looks for them after the new tokens'
// own index rows are written, and waits for those that others are writing: of two transactions that give the same device two
// tokens at once, one loses the race, is repeated, and then sees the other's.
func (u *unit) replace(ctx context.Context) error {
	if len(u.moved) == 0 {
		return nil
	}
	var stale []indexRow
	err := u.holders(ctx, slices.Collect(maps.Keys(u.moved)), u.store.forUpdate(), func(d deviceKey, t push.Token) {
		if e := u.devices[d]; e.token != t || !e.has(d.device) {
			stale = append(stale, indexRow{d.app, kindDevice, d.device, t})
		}
	})
	if err != nil {
		return fmt.Errorf("look for the devices' other tokens: %w", err)
	}
	if len(stale) == 0 {
		return nil
	}
	others := unit{store: u.store, tx: u.tx, entries: map[key]*entry{}}
	for _, r := range stale {
		if k := (key{r.app, r.token}); others.entries[k] == nil {
			others.add(&entry{key: k})
		}
	}
	slices.SortFunc(others.sorted, func(a, b *entry) int { return compareKeys(a.key, b.key) })
	if err := others.load(ctx, others.sorted); err != nil {
		return fmt.Errorf("read the devices' other tokens: %w", err)
	}
	for _, e := range others.sorted {
		// Not by what has the device now: that may have lost it again since, and then a repetition would come to the same.
		if m := u.moved[deviceKey{e.app, slotOf(&e.stored)}]; m.imported && m.at.Before(e.stored.LastUpdated) {
			return fmt.Errorf("a device was registered elsewhere since it was looked for: %w", database.ErrLostRace)
		}
		e.remains, e.replaced = false, true
	}
	return others.write(ctx, others.sorted)
}
