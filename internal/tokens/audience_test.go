package tokens

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// page reads one page, as the queue does.
func page(tb testing.TB, s *Store, a push.Audience, after push.Token, limit int) (page []push.Recipient) {
	tb.Helper()
	err := s.db.Tx(tb.Context(), func(ctx context.Context, tx *sqlx.Tx) (err error) {
		page, _, _, err = s.AudiencePage(ctx, tx, app, a, after, limit, 0)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return page
}

// audience reads all pages, and checks that only the last one is not full.
func audience(tb testing.TB, s *Store, a push.Audience, limit int) (all []push.Recipient) {
	tb.Helper()
	var after push.Token
	for {
		p := page(tb, s, a, after, limit)
		all = append(all, p...)
		if len(p) < limit {
			return all
		}
		after = p[len(p)-1].Token
	}
}

// fill imports n devices as make describes them.
func fill(tb testing.TB, s *Store, n int, describe func(i int, d *push.Device)) {
	tb.Helper()
	devices := make([]push.Device, n)
	now := s.now()
	for i := range devices {
		devices[i] = push.Device{Token: token(i), Environment: push.Production, LastUpdated: now, CreatedAt: now}
		if describe != nil {
			describe(i, &devices[i])
		}
	}
	for page := range slices.Chunk(devices, 2000) {
		if err := s.Import(tb.Context(), app, page); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestAudience(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		const n = 600
		fill(t, s, n, func(i int, d *push.Device) {
			d.Badge = uint32(i)
			d.UserID = fmt.Sprint("u", i/2)
			d.Tags = []string{"all"}
			for _, m := range []int{2, 3, 50} {
				if i%m == 0 {
					d.Tags = append(d.Tags, fmt.Sprint("m", m))
				}
			}
			if i%10 == 9 {
				d.Environment = push.Sandbox
			}
		})
		production := func(i int) bool { return i%10 != 9 }
		tags := func(all, any, none string) push.Audience {
			return push.Audience{Environment: push.Production, Tags: &push.Tags{All: strings.Fields(all), Any: strings.Fields(any), None: strings.Fields(none)}}
		}
		var everyone []string
		for i := range n {
			everyone = append(everyone, fmt.Sprint("u", i))
		}
		var many string
		for i := range 2 * maxUnion {
			many += fmt.Sprint(" x", i)
		}
		for name, c := range map[string]struct {
			audience push.Audience
			in       func(i int) bool
		}{
			"all":              {push.Audience{Environment: push.Production, All: true}, production},
			"all sandbox":      {push.Audience{Environment: push.Sandbox, All: true}, func(i int) bool { return i%10 == 9 }},
			"a user":           {push.Audience{Environment: push.Production, Users: []string{"u4"}}, func(i int) bool { return i/2 == 4 && production(i) }},
			"users":            {push.Audience{Environment: push.Production, Users: []string{"u7", "u200", "u7", "none"}}, func(i int) bool { return (i/2 == 7 || i/2 == 200) && production(i) }},
			"sandbox users":    {push.Audience{Environment: push.Sandbox, Users: []string{"u4", "u9"}}, func(i int) bool { return i == 9 || i == 19 }},
			"every user":       {push.Audience{Environment: push.Sandbox, Users: everyone}, func(i int) bool { return i%10 == 9 }},
			"nobody":           {push.Audience{Environment: push.Production, Users: []string{}}, func(int) bool { return false }},
			"unknown user":     {push.Audience{Environment: push.Production, Users: []string{"none"}}, func(int) bool { return false }},
			"a tag":            {tags("m50", "", ""), func(i int) bool { return i%50 == 0 }},
			"all tags":         {tags("all m2 m3", "", ""), func(i int) bool { return i%6 == 0 }},
			"any tag":          {tags("", "m2 m3 none", ""), func(i int) bool { return production(i) && (i%2 == 0 || i%3 == 0) }},
			"any of very many": {tags("", "m2 m3"+many, ""), func(i int) bool { return production(i) && (i%2 == 0 || i%3 == 0) }},
			"no tag":           {tags("", "", "m2 m3"), func(i int) bool { return production(i) && i%2 != 0 && i%3 != 0 }},
			"a tag, not":       {tags("m2", "", "m3"), func(i int) bool { return i%2 == 0 && i%3 != 0 }},
			"all, any, none":   {tags("all", "m2 m50", "m3"), func(i int) bool { return i%2 == 0 && i%3 != 0 }},
			"not any more":     {tags("m2", "", "all"), func(int) bool { return false }},
			"unknown tag":      {tags("m2 none", "", ""), func(int) bool { return false }},
			"sandbox tag": {push.Audience{Environment: push.Sandbox, Tags: &push.Tags{Any: []string{"m3"}}},
				func(i int) bool { return i%10 == 9 && i%3 == 0 }},
		} {
			var want []push.Recipient
			for i := range n {
				if c.in(i) {
					want = append(want, push.Recipient{Token: token(i), Badge: uint32(i)})
				}
			}
			for _, limit := range []int{23, 100, 1000} {
				if got := audience(t, s, c.audience, limit); !slices.Equal(want, got) {
					t.Errorf("%s, by %d: got %d, want %d", name, limit, len(got), len(want))
				}
			}
		}
		if got := page(t, s, push.Audience{Environment: push.Production, All: true}, token(n), 10); len(got) != 0 {
			t.Errorf("after the last: %v", got)
		}
	})
}

// An index row whose device is not there is passed over.
func TestAudienceWithStrayIndexRow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		fill(t, s, 3, func(_ int, d *push.Device) { d.UserID = "u" })
		err := s.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM device_tokens WHERE token = ?", []byte(token(1)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []push.Route{push.Production, ""} {
			got := audience(t, s, push.Audience{Environment: e, Users: []string{"u"}}, 2)
			if len(got) != 2 || got[0].Token != token(0) || got[1].Token != token(2) {
				t.Errorf("%v", got)
			}
		}
	})
}

// recorder keeps the statements that run through it.
type recorder struct {
	sqlx.QueryerContext
	statements []recordedStatement
}

// Conditions that many meet one by one and few together are read in steps: no page lasts as long as the registry is large.
func TestSparseAudienceIsReadInSteps(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		const n = 300
		fill(t, s, n, func(i int, d *push.Device) {
			d.Tags = []string{"all"}
			if i%2 == 0 || i == 201 {
				d.Tags = append(d.Tags, "even")
			}
			if i%2 == 1 {
				d.Tags = append(d.Tags, "odd")
			}
		})
		tags := &push.Tags{All: []string{"even", "odd"}}
		sel := selection{app: app, columns: "environment, badge, tags", tags: tags, scan: 40}
		for _, tag := range tags.All {
			sel.lists = append(sel.lists, tokenList{kindTag, []string{tag}})
		}
		var r row
		var found []push.Token
		steps := 0
		for after := push.Token(""); ; steps++ {
			next, err := sel.each(t.Context(), s.db.Reader(), &r, []any{&r.token, &r.environment, &r.badge, &r.tags}, after, 10, func() error {
				found = append(found, push.Token(r.token))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if next == "" {
				break
			}
			if next <= after {
				t.Fatalf("no progress after %s", after)
			}
			after = next
		}
		if !slices.Equal(found, []push.Token{token(201)}) || steps < 2 || steps > 5 {
			t.Errorf("found %v in %d steps", found, steps)
		}
	})
}

type recordedStatement struct {
	sql  string
	args []any
}

func (r *recorder) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	r.statements = append(r.statements, recordedStatement{query, slices.Clone(args)})
	return r.QueryerContext.QueryContext(ctx, query, args...)
}

// An audience of a few among many is found by the indexes: SQLite plans to read no table from end to end, and what MySQL or
// MariaDB has read is in proportion to the page and not to the registry.
func TestAudienceCostsWhatItFinds(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		const n, limit = 6000, 50
		fill(t, s, n, func(i int, d *push.Device) {
			d.Tags = []string{"all"}
			d.UserID = fmt.Sprint("u", i)
			if i%1000 == 500 {
				d.Tags = append(d.Tags, "rare", fmt.Sprint("rare", i))
				d.Environment = push.Sandbox
			}
		})
		var others []push.Device // as many again, behind the first
		for i := range n {
			others = append(others, push.Device{
				Token: push.TextToken("fcm", fmt.Sprintf("%05d", i)), Environment: "fcm", Tags: []string{"all"}, LastUpdated: s.now(), CreatedAt: s.now(),
			})
		}
		for page := range slices.Chunk(others, 1000) {
			if err := s.Import(t.Context(), app, page); err != nil {
				t.Fatal(err)
			}
		}
		reads := func(tx *sqlx.Tx) (sum int) {
			t.Helper()
			var rows []struct {
				Name  string `db:"Variable_name"`
				Value int    `db:"Value"`
			}
			if err := tx.Select(&rows, "SHOW SESSION STATUS LIKE 'Handler_read%'"); err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				sum += r.Value
			}
			return sum
		}
		p := push.Production
		for name, c := range map[string]struct {
			audience push.Audience
			want     int
		}{
			"all":           {push.Audience{Environment: p, All: true}, limit},
			"all sandbox":   {push.Audience{Environment: push.Sandbox, All: true}, 6},
			"user":          {push.Audience{Environment: p, Users: []string{"u17"}}, 1},
			"users":         {push.Audience{Environment: p, Users: []string{"u17", "u18", "u5000"}}, 3},
			"tag":           {push.Audience{Environment: p, Tags: &push.Tags{All: []string{"all"}}}, limit},
			"rare":          {push.Audience{Environment: push.Sandbox, Tags: &push.Tags{All: []string{"rare"}}}, 6},
			"all and rare":  {push.Audience{Environment: push.Sandbox, Tags: &push.Tags{All: []string{"all", "rare"}}}, 6},
			"any of both":   {push.Audience{Environment: p, Tags: &push.Tags{Any: []string{"all", "rare", "rare500"}}}, limit},
			"platform":      {push.Audience{All: true, Platforms: []string{"fcm"}}, limit},
			"its tag":       {push.Audience{Tags: &push.Tags{All: []string{"all"}}, Platforms: []string{"fcm"}}, limit},
			"rare, not one": {push.Audience{Environment: push.Sandbox, Tags: &push.Tags{Any: []string{"rare"}, None: []string{"rare500"}}}, 5},
		} {
			err := s.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				if s.db.Dialect == database.SQLite {
					return nil
				}
				before := reads(tx)
				idle := reads(tx) - before // what it costs to ask
				found, _, _, err := s.AudiencePage(ctx, tx, app, c.audience, token(10), limit, 0)
				cost := reads(tx) - before - 2*idle
				if len(found) != c.want || cost > 12*limit || cost < len(found) {
					t.Errorf("%s: %d rows were read to find %d of %d", name, cost, len(found), n)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if s.db.Dialect != database.SQLite {
				continue
			}
			q := &recorder{QueryerContext: s.db.Reader()}
			sel := s.selection(app, c.audience)
			if found, _, _, err := s.audiencePage(t.Context(), q, &sel, token(10), limit); err != nil || len(found) != c.want {
				t.Fatalf("%s: found %d, %v", name, len(found), err)
			}
			for _, st := range q.statements {
				var plan []struct {
					ID, Parent, NotUsed int
					Detail              string
				}
				if err := sqlx.Select(s.db.Reader(), &plan, "EXPLAIN QUERY PLAN "+st.sql, st.args...); err != nil {
					t.Fatal(err)
				}
				for _, step := range plan {
					if strings.Contains(step.Detail, "SCAN device_token") || strings.Contains(step.Detail, "SCAN d") {
						t.Errorf("%s: %s: %s", name, st.sql, step.Detail)
					}
				}
			}
		}
	})
}

// Each member of a page comes with the route that it is registered for.
func TestAudienceRoutes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		for i := range 20 {
			route := push.Production
			if i%5 == 0 {
				route = push.Sandbox
			}
			if _, _, err := s.Register(t.Context(), app, push.Registration{Token: token(i), Environment: route}); err != nil {
				t.Fatal(err)
			}
		}
		err := s.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			page, routes, _, err := s.AudiencePage(ctx, tx, app, push.Audience{All: true}, "", 100, 0)
			for i := range page {
				want := push.Production
				if i%5 == 0 {
					want = push.Sandbox
				}
				if page[i].Token != token(i) || routes[i] != want {
					t.Errorf("%d: %v goes to %s", i, page[i].Token, routes[i])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		asked := []push.Token{token(0), token(1), token(5), token(100)}
		elsewhere, err := s.Elsewhere(t.Context(), s.db.Reader(), app, asked, push.Production)
		if err != nil || len(elsewhere) != 2 || elsewhere[token(0)] != push.Sandbox || elsewhere[token(5)] != push.Sandbox {
			t.Errorf("registered elsewhere: %v, %v", elsewhere, err)
		}
	})
}

// A token that was sent a way that is not its own, or what it is not for, is not removed for what that answered.
func TestRemoveUnchangedByRoute(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		if _, _, err := s.Register(t.Context(), app, push.Registration{Token: token(1), Environment: push.Sandbox}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			route push.Route
			kind  push.Kind
			want  bool
		}{{push.Production, "", false}, {push.Sandbox, payload.KindVoIP, false}, {push.Sandbox, "", true}} {
			err := s.db.Tx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				removed, err := s.RemoveUnchanged(ctx, tx, []push.Invalidation{
					{App: app, Token: token(1), Route: c.route, Kind: c.kind, At: time.Now().Add(time.Minute), Source: push.SourceBadToken},
				})
				if err == nil && removed[0] != c.want {
					t.Errorf("answers of %s: removed %v", c.route, removed[0])
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A device has one token of each kind, and an activity one; an audience has the tokens of its kind.
func TestKinds(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		register := func(i int, kind push.Kind, of string) {
			t.Helper()
			device, user := "d-1", "u-1"
			reg := push.Registration{Token: token(i), DefaultEnvironment: push.Production, DeviceID: &device, UserID: &user, Kind: &kind, KindOf: &of}
			d, _, err := s.Register(t.Context(), app, reg)
			if err != nil || d.Kind != kind || d.KindOf != of {
				t.Fatalf("%+v, %v", d, err)
			}
		}
		register(1, push.KindAlert, "")
		register(2, payload.KindVoIP, "")
		register(3, payload.KindLiveActivityStart, "Ride")
		register(4, payload.KindLiveActivityStart, "Order")
		register(5, payload.KindLiveActivity, "activity-1")
		register(6, payload.KindLiveActivity, "activity-2")
		there := func(want ...int) {
			t.Helper()
			for i := 1; i <= 20; i++ {
				if _, err := s.Get(t.Context(), app, token(i)); (err == nil) != slices.Contains(want, i) {
					t.Errorf("token %d: %v", i, err)
				}
			}
		}
		there(1, 2, 3, 4, 5, 6)
		register(11, push.KindAlert, "")
		there(11, 2, 3, 4, 5, 6)
		register(12, payload.KindVoIP, "")
		there(11, 12, 3, 4, 5, 6)
		register(15, payload.KindLiveActivity, "activity-1")
		there(11, 12, 3, 4, 15, 6)
		for audience, want := range map[*push.Audience][]int{
			{Users: []string{"u-1"}}: {11},
			{All: true}:              {11},
			{Users: []string{"u-1"}, Kind: payload.KindVoIP}:                  {12},
			{All: true, Kind: payload.KindLiveActivityStart}:                  {3, 4},
			{All: true, Kind: payload.KindLiveActivityStart, KindOf: "Order"}: {4},
			{Users: []string{"u-1"}, Kind: payload.KindLiveActivity}:          {6, 15},
			{All: true, Kind: payload.KindWidgets}:                            nil,
		} {
			var got []int
			for _, r := range page(t, s, *audience, "", 100) {
				for i := range 20 {
					if r.Token == token(i) {
						got = append(got, i)
					}
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%+v: %v, want %v", audience, got, want)
			}
		}
	})
}

// Whoever has any of many tags is found page by page, at a cost that does not grow with the number of tags.
func TestAnyOfManyTags(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		const tags, devices = 16, 2000
		audience := push.Audience{Tags: &push.Tags{}}
		for i := range tags {
			audience.Tags.Any = append(audience.Tags.Any, fmt.Sprint("tag", i))
		}
		var all []push.Device
		want := map[push.Token]bool{}
		for i := range devices {
			d := push.Device{Token: token(i), Environment: push.Production, LastUpdated: time.Now(), CreatedAt: time.Now()}
			switch {
			case i%7 == 0: // none of them
			case i < 900:
				d.Tags = []string{"tag0", "tag1"} // the first ones have all of two tags
			default:
				d.Tags = []string{fmt.Sprint("tag", i%tags), "other"}
			}
			if len(d.Tags) > 0 {
				want[d.Token] = true
			}
			all = append(all, d)
		}
		if err := s.Import(t.Context(), app, all); err != nil {
			t.Fatal(err)
		}
		q := &recorder{QueryerContext: s.db.Reader()}
		got := map[push.Token]bool{}
		sel := s.selection(app, audience)
		pages := 0
		for after := push.Token(""); ; pages++ {
			page, _, next, err := s.audiencePage(t.Context(), q, &sel, after, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page {
				if got[r.Token] || r.Token <= after {
					t.Fatalf("%v comes twice, or out of order", r.Token)
				}
				got[r.Token] = true
			}
			if after = next; after == "" {
				break
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d of %d devices were found, in %d pages", len(got), len(want), pages)
		}
		if pages > devices/leastList {
			t.Errorf("it took %d pages", pages)
		}
		// However many tags there are, a statement reads no more rows than the registry itself would be read for.
		const limit = 4000
		q.statements = nil
		if _, _, _, err := s.audiencePage(t.Context(), q, &sel, "", limit); err != nil {
			t.Fatal(err)
		}
		for _, st := range q.statements {
			rows := 0
			for _, arg := range st.args {
				if n, ok := arg.(int); ok { // a LIMIT
					rows += n
				}
			}
			if rows == 0 || rows > maxRead+maxRead/tags {
				t.Errorf("the LIMITs of a statement add up to %d", rows)
			}
		}
	})
}

// The first sandbox token of an app is known at once, however often it was looked for in vain.
func TestTheFirstSandboxToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		for i := range 10 {
			asked := []push.Token{token(i)}
			elsewhere, err := s.Elsewhere(t.Context(), s.db.Reader(), app, asked, push.Production)
			if err != nil || len(elsewhere) > 0 {
				t.Fatalf("%v, %v", elsewhere, err)
			}
			if i < 5 {
				continue
			}
			if _, _, err := s.Register(t.Context(), app, push.Registration{Token: token(i), Environment: push.Sandbox}); err != nil {
				t.Fatal(err)
			}
			if elsewhere, err = s.Elsewhere(t.Context(), s.db.Reader(), app, asked, push.Production); err != nil || elsewhere[token(i)] != push.Sandbox {
				t.Errorf("token %d: %v, %v", i, elsewhere, err)
			}
		}
	})
}

// The users of an audience may be more than one statement holds: here with bytes whose escaping doubles them.
func TestAudienceOfManyUsers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		const n = 3000
		user := func(i int) string { return fmt.Sprintf("%05d", i) + strings.Repeat("'", 247) }
		fill(t, s, n, func(i int, d *push.Device) { d.UserID = user(i) })
		audience := push.Audience{}
		for i := range 10_000 {
			audience.Users = append(audience.Users, user(i))
		}
		var got []push.Recipient
		for after := push.Token(""); ; after = got[len(got)-1].Token {
			p := page(t, s, audience, after, 700)
			got = append(got, p...)
			if len(p) < 700 {
				break
			}
		}
		for i := range got {
			if i > 0 && got[i].Token <= got[i-1].Token {
				t.Fatalf("recipient %d is out of order", i)
			}
		}
		if len(got) != n {
			t.Errorf("%d of %d recipients", len(got), n)
		}
	})
}
