package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/apps"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/events"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
	"github.com/lhspn/lhspn/internal/quota"
	"github.com/lhspn/lhspn/internal/tokens"
)

const (
	// pollApps is how often a replica looks whether another has changed the apps, and pollTimeout how long one look may
	// take.
	pollApps    = time.Second
	pollTimeout = 4 * time.Second
	// removeEvery is how often it is looked for deleted apps. What one had is removed in steps of up to removeStep rows,
	// and removeBreath is how long the database is left to others after each.
	removeEvery  = 2 * time.Second
	removeStep   = 500
	removeBreath = 50 * time.Millisecond
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
	late      time.Duration                                                // see stepRemoval
	rotates   bool                                                         // there is a former master key
	resealed  time.Time                                                    // when it was looked for what is under that
	apply     func(all []config.App, operators []config.OperatorKey) error // live's

	mu        sync.Mutex      // guards what follows, and the order of applying
	webhooks  config.Webhooks // what is allowed of all
	file      []config.App
	operators []config.OperatorKey
	stored    []apps.App
	version   int64
	told      map[string]string // what the log has said of an app that cannot be in force
	parsed    map[string]parsed // by name, of the stored apps that are in force
}

// parsed is an entry with what it says: of thousands of apps a change is of one.
type parsed struct {
	entry []byte
	app   config.App
}

func newOperated(store *apps.Store, cfg *config.Config, log *slog.Logger, reg prometheus.Registerer) *operated {
	o := &operated{
		store: store, masterKey: cfg.MasterKey != "", log: log, file: cfg.Apps, operators: cfg.OperatorKeys,
		webhooks: cfg.Webhooks, late: pollApps + pollTimeout + cfg.API.Timeout,
		rotates: cfg.MasterKeyPrevious != "",
		told:    map[string]string{}, parsed: map[string]parsed{},
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
	o.stored = stored
	// What else cannot be used is in the log, and the rest is in force.
	if err := o.apply(o.merge(), o.operators); errors.Is(err, push.ErrUnavailable) {
		return err // the next look tries it again
	}
	o.version = version
	return nil
}

// merge is all apps that are to be in force. What the file says goes before what is stored. mu is held.
func (o *operated) merge() []config.App {
	all := slices.Clone(o.file)
	unusable, before := 0, o.parsed
	o.parsed = make(map[string]parsed, len(o.stored))
	for i := range o.stored {
		s := &o.stored[i]
		app, err := o.parse(s, before[s.Name])
		if err != nil {
			unusable++
			if o.told[s.Name] != err.Error() {
				o.told[s.Name] = err.Error()
				o.log.Error("a stored app is not in force", "app", s.Name, "error", err)
			}
			continue
		}
		delete(o.told, s.Name)
		o.parsed[s.Name] = parsed{s.Entry, app}
		for _, k := range s.Keys {
			key := s.Name + "\n" + k.Name // as no app is called
			if !o.isFileKey(k.Hash) {
				delete(o.told, key)
			} else {
				if o.told[key] == "" {
					o.told[key] = "twice"
					o.log.Error("a stored key is in the configuration file too, for what it says there", "app", s.Name, "key", k.Name)
				}
				continue
			}
			app.Keys = append(app.Keys, configKey(k))
		}
		all = append(all, app)
	}
	o.unusable.Set(float64(unusable))
	return all
}

// parse makes the settings of a stored app, which may be those of before. mu is held.
func (o *operated) parse(s *apps.App, before parsed) (config.App, error) {
	switch {
	case o.ofFile(s.Name) != nil:
		return config.App{}, errors.New("an app of this name is in the configuration file, and goes before it")
	case s.Err != nil:
		return config.App{}, s.Err
	case before.entry != nil && bytes.Equal(before.entry, s.Entry):
		return before.app, nil
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
					o.reseal(ctx)
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

// resealEvery is how often it is looked for what a replica that still has the former master key first has set.
const resealEvery = 20 * time.Second

// reseal encrypts anew what is under a former master key.
func (o *operated) reseal(ctx context.Context) {
	if !o.rotates || time.Since(o.resealed) < resealEvery || !o.queue.OwnsJob("remove-apps") {
		return
	}
	o.resealed = time.Now()
	switch n, err := o.store.Reseal(ctx); {
	case err != nil && ctx.Err() == nil:
		o.log.Warn("stored apps cannot be encrypted with the new master key; it is tried again", "error", err)
	case n > 0:
		o.log.Info("stored apps are encrypted with the new master key", "apps", n)
	}
}

// removeDeleted removes what deleted apps had, each as far as it can now: the sender has them still, and settles what
// waits as cancelled, which takes its time.
func (o *operated) removeDeleted(ctx context.Context) {
	o.mu.Lock()
	stored := o.stored
	o.mu.Unlock()
	for i := range stored {
		a := &stored[i]
		if !a.Deleting {
			continue
		}
		r := o.removalOf(a.Name)
		r.since = a.UpdatedAt
		for more := true; more && o.queue.OwnsJob("remove-apps"); {
			if o.inFile(a.Name) {
				o.endRemoval(ctx, a.Name)
				break
			}
			more = o.stepRemoval(ctx, r)
		}
	}
}

func (o *operated) inFile(app string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ofFile(app) != nil
}

// endRemoval forgets that the app was deleted: its name is the configuration file's now, and so is what is stored under
// it.
func (o *operated) endRemoval(ctx context.Context, app string) {
	if err := o.store.Gone(ctx, app); err == nil {
		o.log.Warn("a deleted app of this name is in the configuration file now; what is left of the deleted one is not "+
			"removed", "app", app)
	}
}

// countedRows is up to how many notifications and rows of events are counted.
const countedRows = 100_000

// AppRemoval implements api.Apps.
func (o *operated) AppRemoval(ctx context.Context, name string) (r api.AppRemoval, err error) {
	if err := o.refresh(ctx); err != nil {
		return r, err
	}
	o.mu.Lock()
	removing := slices.ContainsFunc(o.stored, func(a apps.App) bool { return a.Name == name && a.Deleting })
	o.mu.Unlock()
	if !removing {
		return r, push.ErrNotFound
	}
	stored, err := o.counters.Stored(ctx, name)
	if err != nil {
		return r, err
	}
	r.Recipients, r.DeviceTokens = stored[quota.Waiting]+stored[quota.Scheduled], stored[quota.Tokens]
	if r.Notifications, err = o.queue.CountNotifications(ctx, name, countedRows); err != nil {
		return r, err
	}
	r.EventRows, err = o.events.CountApp(ctx, name, countedRows)
	return r, err
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
