package queue

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// doubts remembers which device tokens were called dead or bad, so that the acceptance that shows otherwise is not
// overlooked: nothing else keeps which tokens are accepted. It remembers the last ones of this replica; in a wave,
// which they are too few for, it takes every token for one of them.
type doubts struct {
	seed maphash.Seed

	mu        sync.RWMutex // guards all below
	now, then map[uint64]struct{}
	waves     map[string]bool // by app
}

// mostDoubts bounds each of the two generations. A token that is taken for another costs a look into the database.
const mostDoubts = 1 << 15

func newDoubts() *doubts {
	return &doubts{seed: maphash.MakeSeed(), now: map[uint64]struct{}{}, waves: map[string]bool{}}
}

func (d *doubts) hash(app string, token push.Token) uint64 {
	var h maphash.Hash
	h.SetSeed(d.seed)
	_, _ = h.WriteString(app) // it never fails
	_ = h.WriteByte(0)
	_, _ = h.WriteString(string(token))
	return h.Sum64()
}

// add notes a token that was called dead or bad.
func (d *doubts) add(app string, token push.Token) {
	h := d.hash(app, token)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now[h] = struct{}{}; len(d.now) > mostDoubts {
		d.now, d.then = map[uint64]struct{}{}, d.now
	}
}

// cleared appends the tokens of a batch that were accepted and may have been called dead or bad before.
func (d *doubts) cleared(s *Settlement, dst []push.Token) []push.Token {
	d.mu.RLock()
	defer d.mu.RUnlock()
	wave := d.waves[s.Batch.App]
	if !wave && len(d.now)+len(d.then) == 0 {
		return dst
	}
	for i := range s.Results {
		if s.Results[i].Outcome != push.Accepted {
			continue
		}
		token, told := s.Batch.Recipients[i].Token, wave
		if !told {
			h := d.hash(s.Batch.App, token)
			_, now := d.now[h]
			_, then := d.then[h]
			told = now || then
		}
		if told {
			dst = append(dst, token)
		}
	}
	return dst
}

// setWave says whether so many of the app's tokens are called unregistered that any may be.
func (d *doubts) setWave(app string, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if on {
		d.waves[app] = true
	} else {
		delete(d.waves, app)
	}
}

// clearDoubts decides that what was accepted lives, whatever was said of it before that was sent.
func (q *Queue) clearDoubts(ctx context.Context, tx *sqlx.Tx, s *Settlement, now any) error {
	tokens := q.doubts.cleared(s, nil)
	slices.Sort(tokens) // as everybody locks them
	for run := range slices.Chunk(tokens, maxKeys) {
		keys := make([]any, len(run))
		for i, t := range run {
			keys[i] = []byte(t)
		}
		args := append([]any{now, s.Batch.App}, keys...)
		kept, err := affected(ctx, tx, `UPDATE invalidations SET checked_at = ? WHERE app = ? AND token IN `+list(len(run))+
			` AND checked_at IS NULL AND source = ? AND invalidated_at <= ?`,
			append(args, string(push.SourceUnregistered), stamp(s.SentAt))...)
		if err != nil {
			return wrap(err, "keep what was accepted")
		}
		q.metrics.invalidations.WithLabelValues("kept").Add(float64(kept))
		args = append([]any{s.Batch.App}, keys...)
		_, err = tx.ExecContext(ctx, `DELETE FROM bad_tokens WHERE app = ? AND token IN `+list(len(run))+
			` AND environment = ? AND last_at <= ?`, append(args, string(s.Batch.Route), stamp(s.SentAt))...)
		if err != nil {
			return wrap(err, "forget what was called bad")
		}
	}
	return nil
}
