package queue

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// model is what ought to be, whatever commits fail: for each notification, which tokens are done and how.
type model struct {
	*rig
	t       *rapid.T
	devices map[push.Token]int64 // the badge that ought to be stored
	wants   map[uuid.UUID]*expectation
	held    []*Batch  // what a sender would have in memory
	last    *[]*Batch // what was handed over of the last acceptance
}

type expectation struct {
	increment uint32
	audience  bool
	platforms []string
	tokens    map[push.Token]push.Outcome // Pending until it is final
	cancelled bool
}

// TestRandomHistories runs random sequences of everything the queue does, with commits that fail before or after they
// happen and a sender that forgets what it held, and compares after each step: counts add up, the backlog is what
// waits, every token has exactly the outcome it was settled with, every stored badge was counted once, and nothing is
// lost.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		var handed []*Batch
		r := start(t, db, Config{Handoff: func(_ *push.Notification, batches []*Batch) { handed = batches }})
		devices := mixedTokens(0, 25)
		registry{db: db}.put(t, r.now(), devices...)
		rapid.Check(t, func(rt *rapid.T) {
			m := &model{last: &handed, rig: r, t: rt, devices: map[push.Token]int64{}, wants: map[uuid.UUID]*expectation{}}
			m.clear(devices)
			rt.Repeat(map[string]func(*rapid.T){
				"accept": m.accept, "send": m.send, "expand": m.expand, "count badges": m.count, "cancel": m.cancel, "crash": m.crash, "": m.check,
			})
			m.finish()
		})
	})
}

// clear removes what an earlier history has left, which is something only if it failed.
func (m *model) clear(devices []push.Token) {
	m.fault.Store(nil)
	err := m.db.Tx(m.rig.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		for _, statement := range []string{
			"DELETE FROM batches", "DELETE FROM notifications", "DELETE FROM notification_platforms", "DELETE FROM cancellations", "DELETE FROM app_usage",
			"UPDATE device_tokens SET badge = 0",
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, token := range devices {
		m.devices[token] = 0
	}
}

// faults has the next commit fail, sometimes.
func (m *model) faults(t *rapid.T) {
	m.failOnce(rapid.SampledFrom([]fault{none, none, failed, persisted}).Draw(t, "fault"))
}

// again repeats what failed for a commit that may have happened.
func (m *model) again(fn func() error) {
	err := fn()
	if errors.Is(err, database.ErrCommitUnknown) {
		err = fn()
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) accept(t *rapid.T) {
	want := &expectation{tokens: map[push.Token]push.Outcome{}}
	want.platforms = rapid.SampledFrom([][]string{{"apns"}, {"fcm"}, {"apns", "webpush"}, {"fcm", "apns", "webpush"}}).Draw(t, "platforms")
	s := m.submission(want.platforms...)
	n := s.Notification
	n.Expiration = n.Expiration.Add(time.Hour)
	n.BadgeIncrement = rapid.SampledFrom([]uint32{0, 1, 3}).Draw(t, "increment")
	want.increment = n.BadgeIncrement
	for _, other := range n.Others {
		other.BadgeIncrement = n.BadgeIncrement
	}
	if want.audience = rapid.Bool().Draw(t, "audience"); want.audience {
		s.Audience = &push.Audience{All: true, Platforms: want.platforms}
		if rapid.Bool().Draw(t, "of one user") { // one batch for all routes
			s.Audience = &push.Audience{Users: []string{"anyone"}, Platforms: want.platforms}
		}
	} else {
		s.Tokens = slices.DeleteFunc(mixedTokens(0, rapid.IntRange(3, 30).Draw(t, "recipients")), func(t push.Token) bool {
			return !slices.Contains(want.platforms, t.PlatformName())
		})
		if rapid.Bool().Draw(t, "to one device") {
			s.Tokens = s.Tokens[:1]
		}
		for _, token := range s.Tokens {
			want.tokens[token] = push.Pending
		}
	}
	m.faults(t)
	*m.last = nil
	if _, err := m.Accept(m.rig.t.Context(), &push.Request{App: app, Submissions: []push.Submission{s}}); err != nil {
		t.Fatal(err)
	}
	m.wants[n.ID] = want
	if handed := *m.last; rapid.Bool().Draw(t, "handed over") {
		m.held = append(m.held, handed...)
	} else {
		m.crash(t)
	}
}

// take removes a random batch of the kind from memory.
func (m *model) take(t *rapid.T, kind Kind) *Batch {
	var of []int
	for i, b := range m.held {
		if b.Kind == kind {
			of = append(of, i)
		}
	}
	if len(of) == 0 {
		t.Skip("none is held")
	}
	i := rapid.SampledFrom(of).Draw(t, "batch")
	b := m.held[i]
	m.held = slices.Delete(m.held, i, i+1)
	return b
}

func (m *model) send(t *rapid.T) {
	b := m.take(t, Ready)
	want := m.wants[b.Notification]
	s := m.settlement(b, push.Result{})
	for i := range s.Results {
		outcome := rapid.SampledFrom([]push.Outcome{push.Accepted, push.Accepted, push.Failed, push.Unregistered, push.Retry, push.NotSent, push.Expired}).Draw(t, "outcome")
		s.Results[i] = push.Result{Outcome: outcome, Reason: reasonBadDeviceToken, DeadAt: m.now().Add(-time.Hour).UnixMicro()}
		token := b.Recipients[i].Token
		if was, known := want.tokens[token]; !known || was != push.Pending {
			t.Fatalf("a recipient that is %v (%v) was given out again", was, known)
		}
		if want.increment > 0 && b.Recipients[i].Badge < want.increment {
			t.Fatalf("badge %d is sent with increment %d", b.Recipients[i].Badge, want.increment)
		}
		if outcome.Final() {
			want.tokens[token] = outcome
		}
	}
	m.faults(t)
	m.again(func() error {
		followUps, err := m.Settle(m.rig.t.Context(), []Settlement{s})
		m.held = append(m.held, followUps...)
		return err
	})
}

func (m *model) expand(t *rapid.T) {
	b := m.take(t, Audience)
	want := m.wants[b.Notification]
	limit := rapid.IntRange(1, 20).Draw(t, "limit")
	m.faults(t)
	m.again(func() error {
		ready, next, err := m.Expand(m.rig.t.Context(), m.lease(b), b, limit)
		for _, r := range ready {
			for _, recipient := range r.Recipients {
				if _, known := want.tokens[recipient.Token]; known {
					t.Fatal("a token was found twice")
				}
				want.tokens[recipient.Token] = push.Pending
				m.devices[recipient.Token] += int64(want.increment)
			}
		}
		m.held = append(m.held, ready...)
		if next != nil {
			m.held = append(m.held, next)
		}
		return err
	})
}

func (m *model) count(t *rapid.T) {
	b := m.take(t, Badges)
	m.faults(t)
	m.again(func() error {
		ready, err := m.CountBadges(m.rig.t.Context(), []Leased{{b, m.lease(b)}})
		m.held = append(m.held, ready...)
		for _, r := range ready {
			for _, recipient := range r.Recipients {
				if _, registered := m.devices[recipient.Token]; registered {
					m.devices[recipient.Token] += int64(m.wants[b.Notification].increment)
				}
			}
		}
		return err
	})
}

func (m *model) cancel(t *rapid.T) {
	var open []uuid.UUID
	for id := range m.wants {
		open = append(open, id)
	}
	if len(open) == 0 {
		t.Skip("there is none")
	}
	slices.SortFunc(open, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	id := rapid.SampledFrom(open).Draw(t, "notification")
	m.faults(t)
	done := m.get(id).State == push.StateDone
	var err error
	for range 2 {
		if _, err = m.Cancel(m.rig.t.Context(), app, id); !errors.Is(err, database.ErrCommitUnknown) {
			break
		}
	}
	if done != errors.Is(err, push.ErrConflict) || (!done && err != nil) {
		t.Fatalf("cancel, done %v: %v", done, err)
	}
	m.wants[id].cancelled = m.wants[id].cancelled || !done
	m.settleCancelled()
}

func (m *model) settleCancelled() {
	batches := append(m.cancelledBatches(nil, 1000), m.cancelledSingles()...)
	for _, b := range batches {
		m.held = slices.DeleteFunc(m.held, func(h *Batch) bool { return h.Notification == b.Notification })
		for _, recipient := range b.Recipients {
			m.wants[b.Notification].tokens[recipient.Token] = push.Cancelled
		}
		s := m.settlement(b, push.Result{Outcome: push.Cancelled})
		m.again(func() error {
			_, err := m.Settle(m.rig.t.Context(), []Settlement{s})
			return err
		})
	}
}

// crash forgets what was in memory and reads it again.
func (m *model) crash(*rapid.T) {
	m.held = nil
	for _, b := range m.due() {
		if m.wants[b.Notification] == nil {
			m.t.Fatal("a batch is left of an earlier history")
		}
		m.held = append(m.held, b)
	}
}

func (m *model) check(t *rapid.T) {
	for id, want := range m.wants {
		s := m.get(id)
		byPlatform := map[string]push.Counts{}
		for _, name := range want.platforms {
			byPlatform[name] = push.Counts{}
		}
		for token, outcome := range want.tokens {
			counts := byPlatform[token.PlatformName()]
			switch outcome { // what is not final is pending
			case push.Accepted:
				counts.Accepted++
			case push.Failed:
				counts.Failed++
			case push.Unregistered:
				counts.Unregistered++
			case push.Expired:
				counts.Expired++
			case push.Cancelled:
				counts.Cancelled++
			default:
				counts.Pending++
			}
			byPlatform[token.PlatformName()] = counts
		}
		var counts push.Counts
		for _, c := range byPlatform {
			counts = sum(counts, c)
		}
		if diff := cmp.Diff(byPlatform, s.ByPlatform); diff != "" {
			t.Fatalf("counts by platform (-want +got):\n%s", diff)
		}
		if s.Counts != counts {
			t.Fatalf("counts are %+v, not %+v", s.Counts, counts)
		}
		over := counts.Pending == 0 && s.Expanded
		if over == s.FinishedAt.IsZero() || (s.State == push.StateCancelled) != want.cancelled || (s.State == push.StateDone) != (over && !want.cancelled) {
			t.Fatalf("finished %v, cancelled %v, but %+v", over, want.cancelled, s)
		}
	}
	m.checkBacklog()
	if m.rig.t.Failed() {
		t.FailNow()
	}
}

func (m *model) devicesOf(platforms []string) (n int) {
	for token := range m.devices {
		if slices.Contains(platforms, token.PlatformName()) {
			n++
		}
	}
	return n
}

// finish sends all there is, and looks at the badges.
func (m *model) finish() {
	for range 100 {
		if m.crash(m.t); len(m.held) == 0 {
			break
		}
		for _, b := range m.held {
			switch b.Kind {
			case Ready:
				for _, recipient := range b.Recipients {
					m.wants[b.Notification].tokens[recipient.Token] = push.Accepted
				}
				m.settle(m.settlement(b, accepted))
			case Badges:
				if _, err := m.CountBadges(m.rig.t.Context(), []Leased{{b, m.lease(b)}}); err != nil {
					m.t.Fatal(err)
				}
				for _, recipient := range b.Recipients {
					if _, registered := m.devices[recipient.Token]; registered {
						m.devices[recipient.Token] += int64(m.wants[b.Notification].increment)
					}
				}
			case Audience:
				ready, _, err := m.Expand(m.rig.t.Context(), m.lease(b), b, 1000)
				if err != nil {
					m.t.Fatal(err)
				}
				for _, r := range ready {
					for _, recipient := range r.Recipients {
						m.wants[b.Notification].tokens[recipient.Token] = push.Pending
						m.devices[recipient.Token] += int64(m.wants[b.Notification].increment)
					}
				}
			case Singles:
				m.t.Fatal("an entry is held, and not what it names")
			case Unreadable:
				m.t.Fatal("one cannot be read")
			}
		}
	}
	m.check(m.t)
	for id, want := range m.wants {
		if s := m.get(id); s.FinishedAt.IsZero() || (!want.audience && len(want.tokens) != int(s.Recipients)) ||
			(want.audience && !want.cancelled && int(s.Recipients) != m.devicesOf(want.platforms)) {
			m.t.Fatalf("something was lost: %+v", s)
		}
	}
	for token, badge := range m.devices {
		if stored := m.badge(token); stored != badge {
			m.t.Fatalf("the badge of %s is %d, not %d", token.Short(), stored, badge)
		}
	}
}
