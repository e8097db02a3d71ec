package queue

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/push"
)

func TestInvalidations(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		now := r.now().UTC().Truncate(time.Second)
		registry{db: r.db}.put(t, now.Add(-time.Hour), tokens(0, 5)...)
		registry{db: r.db}.put(t, now, token(7)) // registered again after the news below
		var inbox []push.Invalidation
		for _, i := range []int{0, 1, 2, 3, 4, 7, 8} { // 8 is not registered at all
			inbox = append(inbox, push.Invalidation{App: app, Token: token(i), At: now.Add(-time.Minute), Source: push.SourceFeedback})
		}
		inbox = append(inbox, push.Invalidation{App: app, Token: token(7), At: now.Add(-time.Minute), Source: push.SourceUnregistered},
			push.Invalidation{App: "another", Token: token(0), At: now, Source: push.SourceFeedback})
		for range 2 { // as after a lost commit
			if err := r.RecordInvalidations(t.Context(), inbox); err != nil {
				t.Fatal(err)
			}
		}
		removed := map[push.Token]bool{}
		checked := 0
		for {
			page, err := r.CheckInvalidations(t.Context(), app, push.PlatformSet{}, 3)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, c := range page {
				checked++
				removed[c.Token] = removed[c.Token] || c.Removed
			}
		}
		want := map[push.Token]bool{token(0): true, token(1): true, token(2): true, token(3): true, token(4): true, token(7): false, token(8): false}
		if diff := cmp.Diff(want, removed); diff != "" || checked != 8 {
			t.Errorf("%d were checked; removed (-want +got):\n%s", checked, diff)
		}
		if n := r.scalar("SELECT COUNT(*) FROM device_tokens"); n != 1 {
			t.Errorf("%d tokens are left", n)
		}
		if err := r.RecordInvalidations(t.Context(), inbox); err != nil { // the same news again is no news
			t.Fatal(err)
		}
		if page, err := r.CheckInvalidations(t.Context(), app, push.PlatformSet{}, 10); err != nil || len(page) > 0 {
			t.Errorf("%v, %v", page, err)
		}

		var history []push.CheckedInvalidation
		for cursor := ""; ; {
			page, next, err := r.Invalidations(t.Context(), app, time.Time{}, cursor, 3)
			if err != nil {
				t.Fatal(err)
			}
			history = append(history, page...)
			if cursor = next; cursor == "" {
				break
			}
		}
		seen := map[push.Invalidation]bool{}
		for i, c := range history {
			seen[c.Invalidation] = true
			if i > 0 && c.CheckedAt.Before(history[i-1].CheckedAt) || c.App != app || !c.At.Equal(now.Add(-time.Minute)) {
				t.Errorf("%+v", c)
			}
		}
		if len(history) != 8 || len(seen) != 8 {
			t.Errorf("the history has %d items, %d different ones", len(history), len(seen))
		}
		if page, _, err := r.Invalidations(t.Context(), app, r.now().Add(time.Hour), "", 3); err != nil || len(page) > 0 {
			t.Errorf("since an hour from now: %v, %v", page, err)
		}
		for _, bad := range []string{"x", "eA", "MSB4IDEgeA"} {
			if _, _, err := r.Invalidations(t.Context(), app, now, bad, 3); !errors.Is(err, push.ErrNotFound) {
				t.Errorf("cursor %q: %v", bad, err)
			}
		}
	})
}

// The history is paged over whatever was stored: a service may have told of tokens that none could register.
func TestInvalidationsOfOddTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		odd := []push.Token{"a", "abc", push.Token(strings.Repeat("z", 100)), push.TextToken("fcm", "x y"), token(1)}
		var inbox []push.Invalidation
		for _, token := range odd {
			inbox = append(inbox, push.Invalidation{App: app, Token: token, At: r.now().Add(-time.Minute), Source: push.SourceFeedback})
		}
		if err := r.RecordInvalidations(t.Context(), inbox); err != nil {
			t.Fatal(err)
		}
		if page, err := r.CheckInvalidations(t.Context(), app, push.PlatformSet{}, 10); err != nil || len(page) != len(odd) {
			t.Fatalf("%d checked: %v", len(page), err)
		}
		found := 0
		for cursor := ""; ; {
			page, next, err := r.Invalidations(t.Context(), app, time.Time{}, cursor, 1)
			if err != nil {
				t.Fatalf("after %d: %v", found, err)
			}
			found += len(page)
			if cursor = next; cursor == "" {
				break
			}
		}
		if found != len(odd) {
			t.Errorf("%d of %d are listed", found, len(odd))
		}
	})
}

func TestUnregisteredGoesToTheInbox(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		gone := r.now().UTC().Add(-time.Minute).Truncate(time.Millisecond)
		registry{db: r.db}.put(t, gone.Add(-time.Second), token(1))
		r.accept(push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(1, 2)})
		r.settle(r.settlement(r.due()[0], push.Result{Outcome: push.Unregistered, Status: 410, DeadAt: gone.UnixMicro()}))
		page, err := r.CheckInvalidations(t.Context(), app, push.PlatformSet{}, 10)
		if err != nil || len(page) != 1 || !page[0].Removed || !page[0].At.Equal(gone) || page[0].Source != push.SourceUnregistered {
			t.Errorf("%+v, %v", page, err)
		}
	})
}

// TestInboxOfRoutes: what was said over a route can be left out, and is told apart in what answers leave behind.
func TestInboxOfRoutes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		registry{db: r.db}.put(t, r.now().Add(-time.Hour), token(1))
		r.accept(push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(1, 2)})
		for _, b := range r.due() {
			r.settle(r.settlement(b, push.Result{Outcome: push.Unregistered, Status: 410}))
		}
		elsewhere := push.Invalidation{App: app, Token: token(2), At: r.now(), Source: push.SourceFeedback}
		if err := r.RecordInvalidations(t.Context(), []push.Invalidation{elsewhere}); err != nil {
			t.Fatal(err)
		}
		all := push.PlatformSet{Names: []string{push.DefaultPlatform}, All: []string{push.DefaultPlatform}}
		without := func(routes ...push.Route) push.PlatformSet {
			s := all
			s.Except = routes
			return s
		}
		if page, err := r.CheckInvalidations(t.Context(), app, without(push.Production, ""), 10); err != nil || len(page) != 0 {
			t.Errorf("%+v, %v", page, err)
		}
		if n, err := r.PendingUnregistered(t.Context(), app, without(push.Sandbox, ""), 10); err != nil || n != 1 {
			t.Errorf("%d pending, %v", n, err)
		}
		page, err := r.CheckInvalidations(t.Context(), app, without(push.Sandbox, ""), 10)
		if err != nil || len(page) != 1 || !page[0].Removed || page[0].Token != token(1) || page[0].Route != push.Production {
			t.Errorf("%+v, %v", page, err)
		}
		if page, err := r.CheckInvalidations(t.Context(), app, all, 10); err != nil || len(page) != 1 || page[0].Token != token(2) {
			t.Errorf("%+v, %v", page, err)
		}
	})
}

// TestAcceptedLives: a token that is accepted after it was called dead, or bad, is not removed for that, whoever decides
// and however late; one that is called dead after it was accepted is.
func TestAcceptedLives(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		send := func(i int, result push.Result) {
			r.accept(push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(i, i+1)})
			for _, b := range r.due() {
				r.settle(r.settlement(b, result))
			}
			r.clock.Add(int64(time.Minute))
		}
		dead := push.Result{Outcome: push.Unregistered, Status: 404}
		registry{db: r.db}.put(t, r.now().Add(-time.Hour), tokens(0, 6)...)
		send(0, dead)
		send(0, accepted)
		send(1, accepted)
		send(1, dead)
		send(2, dead)
		send(2, accepted)
		send(2, dead)
		// Of these another replica has told, in a wave.
		for _, i := range []int{3, 4} {
			told := push.Invalidation{App: app, Token: token(i), At: r.now(), Source: push.SourceUnregistered}
			if err := r.RecordInvalidations(t.Context(), []push.Invalidation{told}); err != nil {
				t.Fatal(err)
			}
		}
		r.clock.Add(int64(time.Minute))
		r.doubts.setWave(app, true)
		send(3, accepted)
		r.doubts.setWave(app, false)
		if n := r.scalar("SELECT COUNT(*) FROM invalidations WHERE checked_at IS NOT NULL AND removed = 0"); n != 3 {
			t.Errorf("%d were kept because they were accepted", n)
		}
		if diff := cmp.Diff(map[push.Token]bool{token(1): true, token(2): true, token(4): true}, r.decided()); diff != "" {
			t.Errorf("removed (-want +got):\n%s", diff)
		}

		bad := push.Result{Outcome: push.Failed, Reason: reasonBadDeviceToken, Status: 400}
		for range 3 {
			send(5, bad)
		}
		send(5, accepted)
		if n := r.scalar("SELECT COUNT(*) FROM bad_tokens"); n != 0 {
			t.Errorf("%d are counted as bad that were accepted since", n)
		}
	})
}

// TestDoubts: what is remembered is bounded.
func TestDoubts(t *testing.T) {
	t.Parallel()
	d := newDoubts()
	many := tokens(0, 3*mostDoubts)
	for _, token := range many {
		d.add(app, token)
	}
	if n := len(d.now) + len(d.then); n > 2*(mostDoubts+1) {
		t.Errorf("%d are remembered", n)
	}
	s := Settlement{Batch: &Batch{App: app}, Results: []push.Result{accepted, {Outcome: push.Failed}}}
	for _, of := range []string{app, "another"} {
		last := many[len(many)-1]
		s.Batch.App, s.Batch.Recipients = of, []push.Recipient{{Token: last}, {Token: last}}
		if got := len(d.cleared(&s, nil)); got != map[bool]int{true: 1, false: 0}[of == app] {
			t.Errorf("%s: %d are to be looked at", of, got)
		}
	}
}

func TestBadTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		bad := func(i int) {
			r.accept(push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(i, i+1)})
			for _, b := range r.due() {
				r.settle(r.settlement(b, push.Result{Outcome: push.Failed, Reason: reasonBadDeviceToken, Status: 400}))
			}
		}
		list := func() []push.Token {
			found, err := r.BadTokens(t.Context(), app, push.PlatformSet{}, 3, 24*time.Hour, 10)
			if err != nil {
				t.Fatal(err)
			}
			var ts []push.Token
			for _, b := range found {
				ts = append(ts, b.Token)
				if err := r.RecordInvalidations(t.Context(), []push.Invalidation{{App: app, Token: b.Token, At: b.FirstAt, Source: push.SourceBadToken}}); err != nil {
					t.Fatal(err)
				}
			}
			return ts
		}
		registry{db: r.db}.put(t, r.now().Add(-time.Hour), token(1), token(2))
		for range 4 { // to a topic that no token is registered for
			r.accept(push.Submission{Routes: production, Notification: r.notification(), Tokens: tokens(1, 2)})
			for _, b := range r.due() {
				s := r.settlement(b, push.Result{Outcome: push.Failed, Reason: reasonBadDeviceToken, Status: 400})
				s.Kind = push.KindNone
				r.settle(s)
			}
			r.clock.Add(int64(25 * time.Hour))
		}
		if found := list(); len(found) != 0 {
			t.Errorf("answers to another topic count: %v", found)
		}
		for range 3 {
			bad(1)
			bad(2)
		}
		if found := list(); len(found) != 0 {
			t.Errorf("three answers within a moment are enough for %v", found)
		}
		r.clock.Add(int64(25 * time.Hour))
		bad(1)
		bad(2)
		registry{db: r.db}.put(t, r.now(), token(2)) // it comes back
		if found := list(); len(found) != 2 {
			t.Fatalf("found %d", len(found))
		}
		if diff := cmp.Diff(map[push.Token]bool{token(1): true, token(2): false}, r.decided()); diff != "" {
			t.Errorf("removed (-want +got):\n%s", diff)
		}
		// The answers before the registration count no more.
		r.clock.Add(int64(25 * time.Hour))
		bad(2)
		if found := list(); len(found) != 0 {
			t.Errorf("found %v", found)
		}
		r.clock.Add(int64(25 * time.Hour))
		bad(2)
		bad(2)
		if err := r.ForgetBadTokens(t.Context(), app, push.PlatformSet{}); err != nil {
			t.Fatal(err)
		}
		if found := list(); len(found) != 0 {
			t.Errorf("after all was forgotten: %v", found)
		}
	})
}

// What is told of one platform's tokens is decided apart from the others', by ranges that no bare token falls into.
func TestTheInboxByPlatform(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		at := r.now().UTC().Add(-time.Minute).Truncate(time.Millisecond)
		all := []string{push.DefaultPlatform, "fcm", "webpush"}
		bare := push.HexToken("fcm:" + strings.Repeat("x", 28)) // bytes that look like another platform's
		of := map[string][]push.Token{
			push.DefaultPlatform: {token(1), bare},
			"fcm":                {push.TextToken("fcm", "a"), push.TextToken("fcm", "~~")},
			"webpush":            {push.TextToken("webpush", strings.Repeat("w", 43))},
		}
		record := func(source push.Source) {
			for _, tokens := range of {
				for _, token := range tokens {
					registry{db: r.db}.put(t, at.Add(-time.Second), token)
					if err := r.RecordInvalidations(t.Context(), []push.Invalidation{{App: app, Token: token, At: at, Source: source}}); err != nil {
						t.Fatal(err)
					}
				}
			}
			at = at.Add(time.Second)
		}
		pending := func(names ...string) int {
			n, err := r.PendingUnregistered(t.Context(), app, push.PlatformSet{Names: names, All: all}, 4)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		record(push.SourceUnregistered)
		record(push.SourceFeedback)
		if n := pending(); n != 4 {
			t.Errorf("%d pending, want the limit", n)
		}
		for _, name := range all {
			if n := pending(name); n != len(of[name]) {
				t.Errorf("%s: %d pending", name, n)
			}
			set := push.PlatformSet{Names: []string{name}, All: all}
			kept, err := r.KeepUnregistered(t.Context(), app, set, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range kept {
				if c.Removed || c.Source != push.SourceUnregistered || !slices.Contains(of[name], c.Token) {
					t.Errorf("%s: %+v", name, c)
				}
			}
			if pending(name) != 0 || len(kept) != len(of[name]) {
				t.Errorf("%s: %d kept, %d pending", name, len(kept), pending(name))
			}
			removed, err := r.CheckInvalidations(t.Context(), app, set, 100)
			if err != nil || len(removed) != len(of[name]) || !removed[0].Removed || !slices.Contains(of[name], removed[0].Token) {
				t.Errorf("%s: %+v, %v", name, removed, err)
			}
		}
		record(push.SourceFeedback)
		two, err := r.CheckInvalidations(t.Context(), app, push.PlatformSet{Names: []string{"webpush", push.DefaultPlatform}, All: all}, 100)
		if err != nil || len(two) != 3 {
			t.Errorf("%+v, %v", two, err)
		}
		if none, err := r.CheckInvalidations(t.Context(), app, push.PlatformSet{Names: []string{"other"}, All: all}, 100); err != nil || len(none) != 0 {
			t.Errorf("%+v, %v", none, err)
		}
		var bad []push.Invalidation
		for _, tokens := range of {
			for _, token := range tokens {
				bad = append(bad, push.Invalidation{App: app, Token: token})
			}
		}
		for range 3 {
			for _, b := range bad {
				s := r.submission(all...)
				s.Tokens = []push.Token{b.Token}
				r.accept(s)
			}
			for _, b := range r.due() {
				r.settle(r.settlement(b, push.Result{Outcome: push.Failed, Reason: reasonBadDeviceToken}))
			}
		}
		count := func(names ...string) int {
			found, err := r.BadTokens(t.Context(), app, push.PlatformSet{Names: names, All: all}, 3, 0, 100)
			if err != nil {
				t.Fatal(err)
			}
			return len(found)
		}
		if count() != 5 || count("fcm") != 2 || count(push.DefaultPlatform) != 2 {
			t.Errorf("bad tokens: %d, %d, %d", count(), count("fcm"), count(push.DefaultPlatform))
		}
		if err := r.ForgetBadTokens(t.Context(), app, push.PlatformSet{Names: []string{push.DefaultPlatform}, All: all}); err != nil {
			t.Fatal(err)
		}
		if count() != 3 || count("fcm") != 2 {
			t.Errorf("bad tokens of the others: %d, %d", count(), count("fcm"))
		}
	})
}
