package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/queue"
)

// How often the database is asked for the vitals, and how long that may take.
const (
	vitalsInterval = 15 * time.Second
	vitalsTimeout  = 5 * time.Second
)

// vitals are what alerts need and nobody else asks the database for.
type vitals struct {
	queue *queue.Queue
	db    *database.DB
	log   *slog.Logger

	oldestDue, clockSkew prometheus.Gauge
}

func newVitals(q *queue.Queue, db *database.DB, log *slog.Logger, reg prometheus.Registerer) *vitals {
	v := &vitals{
		queue: q, db: db, log: log,
		oldestDue: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "lhspn", Subsystem: "queue", Name: "oldest_due_seconds",
			Help: "For how long the first batch in this replica's shards has been due, 0 where nothing is; what is in flight " +
				"counts.",
		}),
		clockSkew: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "lhspn", Name: "database_clock_skew_seconds",
			Help: "How far the database's clock is ahead of this replica's; 0 on SQLite.",
		}),
	}
	reg.MustRegister(v.oldestDue, v.clockSkew)
	return v
}

// Run asks until ctx ends. Values that cannot be had stay as they were: that the database is away is said elsewhere.
func (v *vitals) Run(ctx context.Context) error {
	ticker := time.NewTicker(vitalsInterval)
	defer ticker.Stop()
	for {
		v.ask(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (v *vitals) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, vitalsTimeout)
	defer cancel()
	if oldest, err := v.queue.OldestDue(ctx); err == nil {
		v.oldestDue.Set(oldest.Seconds())
	} else if ctx.Err() == nil {
		v.log.Debug("how long something has been due is not known", "error", err)
	}
	if skew, err := v.db.ClockSkew(ctx); err == nil {
		v.clockSkew.Set(skew.Seconds())
	}
}
