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

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// recorder keeps the statements that run through it.
type recorder struct {
	sqlx.QueryerContext
	statements []recordedStatement
}

// Conditions that many meet one by one and few together are read in steps: no page lasts as long as the registry is
// large.
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

// An audience of a few among many is found by the indexes: SQLite plans to read no table from end to end, and what
// MySQL or MariaDB has read is in proportion to the page and not to the registry.
func TestAudienceCostsWhatItFinds(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *Store) {
		dbtest.NotOnVitess(t, s.db, "a session there does not tell what it has read")
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
