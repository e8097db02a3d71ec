package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/apps"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/quota"
	"github.com/lhspn/lhspn/internal/tokens"
)

const (
	// pollApps is how often a replica looks whether another has changed the apps, and pollTimeout how long one look may
	// take.
	pollApps    = time.Second
	pollTimeout = 4 * time.Second
	// removeEvery is how often the removal of what deleted apps had takes steps, of up to removeStep rows.
	removeEvery = 2 * time.Second
	removeStep  = 500
)

// operated is all the apps there are, of the configuration file and of the database. It has live put in force what
// changes, here or on another replica; what operators see and set of it is in operatedapi.go.
type operated struct {
	store     *apps.Store
	masterKey bool
	queue     *queue.Queue
	tokens    *tokens.Store
	events    *events.Store
	counters  *quota.Counters
	log       *slog.Logger
	failures  prometheus.Counter
	unusable  prometheus.Gauge
	apply     func(all []config.App, operators []config.OperatorKey) error // live's

	mu        sync.Mutex      // guards what follows, and the order of applying
	webhooks  config.Webhooks // what is allowed of all
	file      []config.App
	operators []config.OperatorKey
	stored    []apps.App
	version   int64
	told      map[string]string // what the log has said of an app that cannot be in force
}

func newOperated(store *apps.Store, cfg *config.Config, log *slog.Logger, reg prometheus.Registerer) *operated {
	o := &operated{
		store: store, masterKey: cfg.MasterKey != "", log: log, file: cfg.Apps, operators: cfg.OperatorKeys,
		webhooks: cfg.Webhooks,
		told:     map[string]string{},
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "lhspn", Name: "apps_refresh_errors_total",
			Help: "Looks for apps and keys that other replicas have changed that failed; what is known stays in force.",
		}),
		unusable: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "lhspn", Name: "apps_unusable",
			Help: "Stored apps that are not in force: they cannot be decrypted, or are in the configuration file too.",
		}),
	}
	reg.MustRegister(o.failures, o.unusable)
	return o
}

// storeOf opens the store of apps under the configuration's master keys.
func storeOf(cfg *config.Config, db *database.DB) (*apps.Store, error) {
	var keys [][]byte
	for _, text := range []string{cfg.MasterKey, cfg.MasterKeyPrevious} {
		if text == "" {
			continue
		}
		key, err := config.ParseMasterKey(text)
		if err != nil {
			return nil, fmt.Errorf("master_key: %w", err)
		}
		keys = append(keys, key)
	}
	seals, err := apps.NewSeals(keys...)
	if err != nil {
		return nil, err
	}
	return apps.New(db, seals), nil
}

// load reads the stored apps for the first time, and returns all that are to be in force.
func (o *operated) load(ctx context.Context) ([]config.App, error) {
	n, err := o.store.Reseal(ctx)
	if err != nil {
		return nil, err
	}
	if n > 0 {
		o.log.Info("stored apps are encrypted with the new master key", "apps", n)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stored, o.version, err = o.store.All(ctx); err != nil {
		return nil, err
	}
	return o.merge(), nil
}

// setFile has the configuration file's apps, and what else it says of apps, be these.
func (o *operated) setFile(cfg *config.Config) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.file, o.operators, o.webhooks = cfg.Apps, cfg.OperatorKeys, cfg.Webhooks
	return o.apply(o.merge(), o.operators)
}

// refresh takes up what has changed in the database.
func (o *operated) refresh(ctx context.Context) error {
	o.mu.Lock()
	known := o.version
	o.mu.Unlock()
	version, err := o.store.Version(ctx) // without the lock: those who only want what is known do not wait for a database
	if err != nil || version == known {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	stored, version, err := o.store.All(ctx)
	if err != nil {
		return err
	}
	o.stored, o.version = stored, version
	_ = o.apply(o.merge(), o.operators) // what cannot be used is in the log, and the rest is in force
	return nil
}

// merge is all apps that are to be in force. What the file says goes before what is stored. mu is held.
func (o *operated) merge() []config.App {
	all := slices.Clone(o.file)
	unusable := 0
	for i := range o.stored {
		s := &o.stored[i]
		app, err := o.parse(s)
		if err != nil {
			unusable++
			if o.told[s.Name] != err.Error() {
				o.told[s.Name] = err.Error()
				o.log.Error("a stored app is not in force", "app", s.Name, "error", err)
			}
			continue
		}
		delete(o.told, s.Name)
		for _, k := range s.Keys {
			if o.isFileKey(k.Hash) {
				o.log.Error("a stored key is in the configuration file too, for what it says there", "app", s.Name, "key", k.Name)
				continue
			}
			app.Keys = append(app.Keys, configKey(k))
		}
		all = append(all, app)
	}
	o.unusable.Set(float64(unusable))
	return all
}

// parse makes the settings of a stored app. mu is held.
func (o *operated) parse(s *apps.App) (config.App, error) {
	switch {
	case o.ofFile(s.Name) != nil:
		return config.App{}, errors.New("an app of this name is in the configuration file, and goes before it")
	case s.Err != nil:
		return config.App{}, s.Err
	}
	app, faults := config.ParseApp(s.Name, s.Entry)
	if len(faults) > 0 {
		return app, faults
	}
	app.Keys = nil
	return app, nil
}

func (o *operated) ofFile(name string) *config.App {
	i := slices.IndexFunc(o.file, func(a config.App) bool { return a.Name == name })
	if i < 0 {
		return nil
	}
	return &o.file[i]
}

// run looks for changes, and removes what deleted apps had, until ctx ends.
func (o *operated) run(ctx context.Context) error {
	poll, remove := time.NewTicker(pollApps), time.NewTicker(removeEvery)
	defer poll.Stop()
	defer remove.Stop()
	removing := make(chan struct{}, 1) // one at a time, and beside the polls
	var wg sync.WaitGroup
	defer wg.Wait()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-remove.C:
			select {
			case removing <- struct{}{}:
				wg.Go(func() {
					defer func() { <-removing }()
					o.removeDeleted(ctx)
				})
			default:
			}
			continue
		case <-poll.C:
		}
		looking, cancel := context.WithTimeout(ctx, pollTimeout)
		err := o.refresh(looking)
		cancel()
		if err != nil && ctx.Err() == nil {
			o.failures.Inc()
			if !failing {
				o.log.Warn("changed apps and keys cannot be looked for; those that are known stay in force", "error", err)
			}
		}
		failing = err != nil
	}
}

// removeDeleted takes a step of removing what deleted apps had. The sender has them still, so that what waits is
// settled as cancelled.
func (o *operated) removeDeleted(ctx context.Context) {
	o.mu.Lock()
	stored := o.stored
	o.mu.Unlock()
	for i := range stored {
		a := &stored[i]
		if !a.Deleting || !o.queue.OwnsJob("remove-apps") {
			continue
		}
		gone, err := o.remove(ctx, a.Name)
		switch {
		case err != nil && ctx.Err() == nil:
			o.log.Warn("what a deleted app had cannot be removed; it is tried again", "app", a.Name, "error", err)
		case gone:
			if err := o.store.Gone(ctx, a.Name); err == nil {
				o.log.Info("all that a deleted app had is removed", "app", a.Name)
			}
		}
	}
}

func (o *operated) remove(ctx context.Context, app string) (gone bool, err error) {
	cancelled, left, err := o.queue.RemoveApp(ctx, app, removeStep)
	if cancelled > 0 {
		o.log.Info("what waited of a deleted app is cancelled", "app", app, "recipients", cancelled)
	}
	if err != nil || left {
		return false, err
	}
	n, err := o.tokens.RemoveApp(ctx, app, removeStep)
	if err != nil || n > 0 {
		return false, err
	}
	left, err = o.events.RemoveApp(ctx, app, removeStep) // last: what is removed before is told, too
	if err != nil || left {
		return false, err
	}
	return true, o.counters.Forget(ctx, app)
}

// isFileKey reports whether the configuration file has the key. mu is held.
func (o *operated) isFileKey(hash [sha256.Size]byte) bool {
	for i := range o.file {
		if slices.ContainsFunc(o.file[i].Keys, func(k config.Key) bool { return k.SHA256 == hash }) {
			return true
		}
	}
	return config.IsDevKey(hash) || slices.ContainsFunc(o.operators,
		func(k config.OperatorKey) bool { return k.SHA256 == hash })
}

// configKey is a stored key as the configuration file would have it.
func configKey(k apps.Key) config.Key {
	return config.Key{Name: k.Name, Scope: k.Scope, SHA256: k.Hash, Rate: k.Rate, ExpiresAt: k.ExpiresAt}
}
