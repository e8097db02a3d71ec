package tokens

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// claim gives the record the device that it has not had before, and takes it from those that had it, as far as the
// bounds allow, or with an import as its user is theirs. But what an import tells of the time before one of those was
// registered is the token that it has replaced.
func (w *transaction) claim(e *record, bounds *push.Bounds) {
	id := e.slot()
	k := deviceKey{e.app, id}
	held := w.devices[k]
	if len(held) == 1 && held[0] == e {
		return
	}
	had := e.exists && e.stored.Slot() == id && (!e.imported || e.contends(&e.stored))
	taken := false
	var others []*record
	for _, other := range held {
		switch {
		case other == e:
			continue
		case other.slot() != id: // it had the device
		case bounds != nil && !bounds.Proves(&other.wanted), e.imported && !e.contends(&other.wanted):
			continue
		case e.outdated(&other.wanted): // and so takes the device from none of the others either
			e.remains, e.replaced, e.by = false, true, other.token
			return
		default:
			others = append(others, other)
		}
		taken = true
	}
	for _, other := range others {
		other.remains, other.replaced, other.by = false, true, e.token
	}
	w.holds(e)
	if !had || taken {
		w.moves(k, e, bounds)
	}
}

// holder is the token that has the device of the stored record now; empty where none of those that are known has.
func (w *transaction) holder(e *record) push.Token {
	slot := e.stored.Slot()
	for _, other := range w.devices[deviceKey{e.app, slot}] {
		if other.slot() == slot {
			return other.token
		}
	}
	return ""
}

func (w *transaction) moves(k deviceKey, e *record, bounds *push.Bounds) {
	if bounds != nil && bounds.User == "" { // it takes the place of none
		return
	}
	if w.moved == nil {
		w.moved = map[deviceKey]move{}
	}
	m := w.moved[k]
	switch {
	case bounds != nil:
		m.bounds = append(m.bounds, bounds)
	case !e.imported:
		m.outright = true
	default:
		if m.imports == nil {
			m.imports = map[string]time.Time{}
		}
		if user := e.wanted.UserID; m.imports[user].Before(e.wanted.LastUpdated) {
			m.imports[user] = e.wanted.LastUpdated
		}
	}
	w.moved[k] = m
}

// holds notes that the record has its device, if it is of one.
func (w *transaction) holds(e *record) {
	slot := e.wanted.Slot()
	if slot == "" {
		return
	}
	if w.devices == nil {
		w.devices = map[deviceKey][]*record{}
	}
	k := deviceKey{e.app, slot}
	if !slices.Contains(w.devices[k], e) {
		w.devices[k] = append(w.devices[k], e)
	}
}

// contend has one transaction at a time give a token to a device where several servers take writes: each inserts and
// removes a row under the device's key, so that of two at once one loses the race. A single server needs none of that:
// see replace.
func (w *transaction) contend(ctx context.Context) error {
	if len(w.moved) == 0 || !w.store.db.SeveralWriters() {
		return nil
	}
	rows := make([]indexRow, 0, len(w.moved))
	for d := range w.moved {
		rows = append(rows, indexRow{app: d.app, kind: kindClaim, value: d.device})
	}
	if err := w.store.insertIndex(ctx, w.tx, rows); err != nil {
		return err
	}
	return deleteIndex(ctx, w.tx, rows)
}

// maxReplaced bounds the tokens that a transaction takes devices from. A device has one other, unless somebody invents
// tokens for it.
const maxReplaced = 2000

// replace removes the other tokens of the devices that have come with a new one. It looks for them after the new
// tokens' own index rows are written, and waits for those that others are writing: of two transactions that give the
// same device two tokens at once, one loses the race, is repeated, and then sees the other's.
func (w *transaction) replace(ctx context.Context) error {
	if len(w.moved) == 0 {
		return nil
	}
	var stale []indexRow
	tail := " LIMIT " + strconv.Itoa(maxReplaced) + w.store.forUpdate()
	err := w.holders(ctx, slices.Collect(maps.Keys(w.moved)), tail, func(d deviceKey, t push.Token) {
		if w.records[key{d.app, t}] == nil { // claim has settled it among those
			stale = append(stale, indexRow{d.app, kindDevice, d.device, t})
		}
	})
	if err != nil {
		return fmt.Errorf("look for the devices' other tokens: %w", err)
	}
	if len(stale) == 0 {
		return nil
	}
	others := transaction{store: w.store, tx: w.tx, growth: w.growth, records: map[key]*record{}}
	for _, r := range stale {
		if k := (key{r.app, r.token}); others.records[k] == nil {
			others.add(&record{key: k})
		}
	}
	slices.SortFunc(others.sorted, func(a, b *record) int { return compareKeys(a.key, b.key) })
	if err := others.load(ctx, others.sorted); err != nil {
		return fmt.Errorf("read the devices' other tokens: %w", err)
	}
	for _, e := range others.sorted {
		// Not by what has the device now: that may have lost it again since, and then a repetition would come to the
		// same.
		m := w.moved[deviceKey{e.app, e.stored.Slot()}]
		replaced, err := m.mayReplace(&e.stored)
		if err != nil {
			return err
		}
		if replaced {
			e.remains, e.replaced, e.by = false, true, w.holder(e)
		}
	}
	return others.write(ctx, others.sorted)
}
