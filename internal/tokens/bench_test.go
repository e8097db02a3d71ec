package tokens

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"
	dto "github.com/prometheus/client_model/go"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
	"github.com/lhspn/lhspn/internal/push"
)

// Run them by LHSPN_TESTDB_FLUSH=1 scripts/testdb go test -run - -bench . ./internal/tokens: with 2, MariaDB's default
// here, its commits are not durable.

func benchEach(b *testing.B, fn func(b *testing.B, s *Store)) {
	b.Helper()
	for name, open2 := range map[string]func(testing.TB) *database.DB{"sqlite": dbtest.SQLite, "mysql": dbtest.MySQL} {
		b.Run(name, func(b *testing.B) { fn(b, open(b, open2(b))) })
	}
}

// BenchmarkRegister is 64 clients that register at once: tokens never seen, or known ones.
func BenchmarkRegister(b *testing.B) {
	for name, tokens := range map[string]int64{"new": 1 << 40, "known": 10_000} {
		b.Run(name, func(b *testing.B) {
			benchEach(b, func(b *testing.B, s *Store) {
				if name == "known" {
					fill(b, s, int(tokens), func(i int, d *push.Device) {
						d.UserID, d.DeviceID, d.Tags = fmt.Sprint("u", i), fmt.Sprint("d", i), []string{"plan:pro"}
					})
				}
				var next atomic.Int64
				b.SetParallelism(32) // times GOMAXPROCS
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						n := int(next.Add(1) * 7919 % tokens) // not in their order
						r := registration(n)
						r.UserID, r.DeviceID, r.Tags = ptr(fmt.Sprint("u", n)), ptr(fmt.Sprint("d", n)), ptr([]string{"plan:pro"})
						if _, _, err := s.Register(b.Context(), app, r); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "registrations/s")
				var m dto.Metric
				if err := s.metrics.group.Write(&m); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(m.Histogram.GetSampleSum()/float64(m.Histogram.GetSampleCount()), "changes/transaction")
			})
		})
	}
}

// BenchmarkAudience is a broadcast's pages, with and without badges, and a small audience in a large registry.
func BenchmarkAudience(b *testing.B) {
	const n, limit = 50_000, 1000
	benchEach(b, func(b *testing.B, s *Store) {
		fill(b, s, n, func(i int, d *push.Device) {
			d.UserID, d.Tags = fmt.Sprint("u", i), []string{"all"}
			if i%(n/10) == 0 {
				d.Tags = append(d.Tags, "rare")
			}
		})
		p := push.Production
		for _, c := range []struct {
			name     string
			audience push.Audience
			badges   uint32
		}{
			{"all", push.Audience{Environment: p, All: true}, 0},
			{"all-badges", push.Audience{Environment: p, All: true}, 1},
			{"tag", push.Audience{Environment: p, Tags: &push.Tags{Any: []string{"all"}}}, 0},
			{"10-of-many", push.Audience{Environment: p, Tags: &push.Tags{All: []string{"all", "rare"}}}, 0},
			{"user", push.Audience{Environment: p, Users: []string{"u777"}}, 0},
		} {
			b.Run(c.name, func(b *testing.B) {
				found := 0
				for b.Loop() {
					after := push.Token("")
					if c.audience.All || c.name == "tag" {
						after = token(rand.IntN(n - limit))
					}
					err := s.db.Tx(b.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
						page, _, _, err := s.AudiencePage(ctx, tx, app, c.audience, after, limit, c.badges)
						found += len(page)
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(found)/b.Elapsed().Seconds(), "recipients/s")
			})
		}
	})
}

// BenchmarkImport is an import of tokens never seen, in no order, as it is stored: 4,000 in a transaction. The registry
// grows meanwhile: with -benchtime 75x to 300,000.
func BenchmarkImport(b *testing.B) {
	const n = 4000
	benchEach(b, func(b *testing.B, s *Store) {
		first, page := 0, make([]push.Device, n)
		b.ReportAllocs()
		for b.Loop() {
			at := s.now()
			for i := range page {
				hash := sha256.Sum256(fmt.Append(nil, first+i))
				page[i] = push.Device{Token: push.Token(hash[:]), Environment: push.Production, LastUpdated: at, CreatedAt: at}
			}
			if err := s.Import(b.Context(), app, page); err != nil {
				b.Fatal(err)
			}
			first += n
		}
		b.ReportMetric(float64(first)/b.Elapsed().Seconds(), "tokens/s")
	})
}
