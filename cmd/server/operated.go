package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
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
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/queue"
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

// operated is all the apps there are, of the configuration file and of the database, as operators see and set them. It
// implements api.Apps, and has live put in force what changes, here or on another replica.
type operated struct {
	store     *apps.Store
	masterKey bool
	queue     *queue.Queue
	tokens    *tokens.Store
	log       *slog.Logger
	failures  prometheus.Counter
	unusable  prometheus.Gauge
	apply     func(all []config.App, operators []config.OperatorKey) error // live's

	mu        sync.Mutex // guards what follows, and the order of applying
	file      []config.App
	operators []config.OperatorKey
	stored    []apps.App
	version   int64
	told      map[string]string // what the log has said of an app that cannot be in force
}

func newOperated(store *apps.Store, cfg *config.Config, log *slog.Logger, reg prometheus.Registerer) *operated {
	o := &operated{
		store: store, masterKey: cfg.MasterKey != "", log: log, file: cfg.Apps, operators: cfg.OperatorKeys,
		told: map[string]string{},
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
func storeOf(s *service) (*apps.Store, error) {
	var keys [][]byte
	for _, text := range []string{s.cfg.MasterKey, s.cfg.MasterKeyPrevious} {
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
	return apps.New(s.db, seals), nil
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

// setFile has the configuration file's apps be these.
func (o *operated) setFile(file []config.App, operators []config.OperatorKey) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.file, o.operators = file, operators
	return o.apply(o.merge(), o.operators)
}

// refresh takes up what has changed in the database.
func (o *operated) refresh(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	version, err := o.store.Version(ctx)
	if err != nil || version == o.version {
		return err
	}
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
	hashes := map[config.Hash]bool{}
	for i := range o.file {
		for _, k := range o.file[i].Keys {
			hashes[k.SHA256] = true
		}
	}
	for _, k := range o.operators {
		hashes[k.SHA256] = true
	}
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
			if hashes[k.Hash] {
				o.log.Error("a stored key is in the configuration file too, for what it says there", "app", s.Name, "key", k.Name)
				continue
			}
			app.Keys = append(app.Keys, config.Key{Name: k.Name, Scope: k.Scope, SHA256: k.Hash, Rate: k.Rate,
				ExpiresAt: k.ExpiresAt})
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
	return n == 0, err
}

var errFile = fmt.Errorf("the app is of the configuration file: %w", push.ErrConflict)

// find is the app as it is known, and whether it is the file's. mu is held.
func (o *operated) find(name string) (file *config.App, stored *apps.App, err error) {
	if file = o.ofFile(name); file != nil {
		return file, nil, nil
	}
	for i := range o.stored {
		if s := &o.stored[i]; s.Name == name && !s.Deleting {
			return nil, s, nil
		}
	}
	return nil, nil, push.ErrNotFound
}

// current is find after a look for changes.
func (o *operated) current(ctx context.Context, name string) (*config.App, *apps.App, error) {
	if err := o.refresh(ctx); err != nil {
		return nil, nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.find(name)
}

// ListApps implements api.Apps.
func (o *operated) ListApps(ctx context.Context) ([]json.RawMessage, error) {
	if err := o.refresh(ctx); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var names []string
	for i := range o.file {
		names = append(names, o.file[i].Name)
	}
	for i := range o.stored {
		names = append(names, o.stored[i].Name)
	}
	slices.Sort(names)
	all := []json.RawMessage{}
	for _, name := range slices.Compact(names) {
		file, stored, err := o.find(name)
		if err != nil { // it is being deleted
			continue
		}
		shown, err := show(file, stored)
		if err != nil {
			return nil, err
		}
		all = append(all, shown)
	}
	return all, nil
}

// GetApp implements api.Apps.
func (o *operated) GetApp(ctx context.Context, name string) (json.RawMessage, error) {
	file, stored, err := o.current(ctx, name)
	if err != nil {
		return nil, err
	}
	return show(file, stored)
}

// show is an app's entry without secrets.
func show(file *config.App, stored *apps.App) (json.RawMessage, error) {
	entry := map[string]any{}
	if file != nil {
		entry = file.Describe()
		entry["source"] = "file"
	} else {
		if stored.Err == nil {
			app, _ := config.ParseApp(stored.Name, stored.Entry)
			entry = app.Describe()
		}
		entry["name"], entry["source"] = stored.Name, "api"
		entry["created_at"], entry["updated_at"] = stored.CreatedAt, stored.UpdatedAt
	}
	keys := []any{}
	for _, k := range appKeys(file, stored) {
		keys = append(keys, api.ShowKey(k))
	}
	entry["keys"] = keys
	return json.Marshal(entry)
}

func appKeys(file *config.App, stored *apps.App) (keys []api.AppKey) {
	if file != nil {
		for _, k := range file.Keys {
			keys = append(keys, api.AppKey{Key: api.Key{Name: k.Name, Scope: api.Scope(k.Scope), Hash: k.SHA256, Rate: k.Rate,
				ExpiresAt: k.ExpiresAt}})
		}
		return keys
	}
	for _, k := range stored.Keys {
		keys = append(keys, api.AppKey{
			Key:       api.Key{Name: k.Name, Scope: api.Scope(k.Scope), Hash: k.Hash, Rate: k.Rate, ExpiresAt: k.ExpiresAt},
			CreatedAt: k.CreatedAt,
		})
	}
	return keys
}

// PutApp implements api.Apps.
func (o *operated) PutApp(ctx context.Context, name string, entry push.JSON) (json.RawMessage, bool, error) {
	file, _, err := o.current(ctx, name)
	switch {
	case file != nil:
		return nil, false, api.Explain(errFile, "The app is of the configuration file, and is changed there.")
	case err != nil && !errors.Is(err, push.ErrNotFound):
		return nil, false, err
	case !o.masterKey:
		return nil, false, api.Explain(push.ErrConflict,
			"The configuration has no master_key, under which credentials are kept.")
	}
	keys, replace, err := o.entryKeys(name, entry)
	if err != nil {
		return nil, false, err
	}
	created, err := o.store.Put(ctx, name, keys, replace, func(before []byte) ([]byte, error) {
		doc := []byte(entry)
		if before != nil {
			var err error
			if doc, err = config.MergeApp(doc, before); err != nil {
				return nil, err
			}
		}
		app, faults := config.ParseApp(name, doc)
		if len(faults) > 0 {
			return nil, asFaults(faults)
		}
		if err := tryEntry(&app); err != nil {
			return nil, err
		}
		return withoutKeys(doc)
	})
	if errors.Is(err, push.ErrConflict) {
		err = api.Explain(err, "A key of it is in use already, or an app of that name is being deleted.")
	}
	if err != nil {
		return nil, false, err
	}
	shown, err := o.GetApp(ctx, name)
	return shown, created, err
}

// entryKeys are the keys that an entry has, and whether it has any.
func (o *operated) entryKeys(name string, entry push.JSON) (keys []apps.Key, replace bool, err error) {
	for member := range entry.Members() {
		replace = replace || member.Is("keys")
	}
	app, faults := config.ParseApp(name, entry)
	for _, f := range faults { // the others may be of what is left out
		if len(f.Setting) >= 4 && f.Setting[:4] == "keys" {
			return nil, false, asFaults(faults)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range app.Keys {
		if o.isFileKey(k.SHA256) {
			return nil, false, fmt.Errorf("a key of the configuration file: %w", push.ErrConflict)
		}
		keys = append(keys, apps.Key{Name: k.Name, Scope: k.Scope, Hash: k.SHA256, Rate: k.Rate, ExpiresAt: k.ExpiresAt})
	}
	return keys, replace, nil
}

// isFileKey reports whether the configuration file has the key. mu is held.
func (o *operated) isFileKey(hash [sha256.Size]byte) bool {
	for i := range o.file {
		if slices.ContainsFunc(o.file[i].Keys, func(k config.Key) bool { return k.SHA256 == hash }) {
			return true
		}
	}
	return hash == config.HashKey(config.DevKey) || slices.ContainsFunc(o.operators,
		func(k config.OperatorKey) bool { return k.SHA256 == hash })
}

func asFaults(faults config.Faults) push.Faults {
	all := make(push.Faults, len(faults))
	for i, f := range faults {
		all[i] = push.Fault{Location: "body", Message: f.Message}
		if f.Setting != "" {
			all[i].Location += "." + f.Setting
		}
	}
	return all
}

// tryEntry says what is wrong with an app's credentials. It connects to nothing.
func tryEntry(app *config.App) error {
	g := newGateways(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	var faults push.Faults
	for _, p := range g.platformsOf(app) {
		if o := p.open(); o.err != nil {
			faults = append(faults, push.Fault{Location: "body." + p.name, Message: o.err.Error()})
		}
	}
	if _, err := userTokens(&app.UserTokens); err != nil {
		faults = append(faults, push.Fault{Location: "body.user_tokens", Message: err.Error()})
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// withoutKeys is the entry without what is kept apart.
func withoutKeys(doc []byte) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(doc, &members); err != nil {
		return nil, fmt.Errorf("parse the app's entry: %w", err)
	}
	delete(members, "keys")
	return json.Marshal(members)
}

// DeleteApp implements api.Apps.
func (o *operated) DeleteApp(ctx context.Context, name string) error {
	if err := o.change(ctx, name); err != nil {
		return err
	}
	if err := o.store.Delete(ctx, name); err != nil {
		return err
	}
	return o.refresh(ctx)
}

// change is nil where the app is one that can be changed.
func (o *operated) change(ctx context.Context, name string) error {
	file, _, err := o.current(ctx, name)
	if file != nil {
		return api.Explain(errFile, "The app is of the configuration file, and is changed there.")
	}
	return err
}

// Keys implements api.Apps.
func (o *operated) Keys(ctx context.Context, app string) ([]api.AppKey, error) {
	file, stored, err := o.current(ctx, app)
	if err != nil {
		return nil, err
	}
	return appKeys(file, stored), nil
}

// AddKey implements api.Apps.
func (o *operated) AddKey(ctx context.Context, app string, key api.Key) (api.AppKey, error) {
	if err := o.change(ctx, app); err != nil {
		return api.AppKey{}, err
	}
	o.mu.Lock()
	taken := o.isFileKey(key.Hash)
	o.mu.Unlock()
	if taken {
		return api.AppKey{}, push.ErrConflict
	}
	err := o.store.AddKey(ctx, app, apps.Key{Name: key.Name, Scope: string(key.Scope), Hash: key.Hash, Rate: key.Rate,
		ExpiresAt: key.ExpiresAt})
	if err != nil {
		return api.AppKey{}, err
	}
	keys, err := o.Keys(ctx, app)
	if err != nil {
		return api.AppKey{}, err
	}
	if i := slices.IndexFunc(keys, func(k api.AppKey) bool { return k.Name == key.Name }); i >= 0 {
		return keys[i], nil
	}
	return api.AppKey{}, push.ErrNotFound // revoked again already
}

// DeleteKey implements api.Apps.
func (o *operated) DeleteKey(ctx context.Context, app, name string) error {
	if err := o.change(ctx, app); err != nil {
		return err
	}
	if err := o.store.DeleteKey(ctx, app, name); err != nil {
		return err
	}
	return o.refresh(ctx)
}

// NewKey implements api.Apps.
func (o *operated) NewKey(scope api.Scope) (string, [sha256.Size]byte) {
	key, hash := config.NewKey(string(scope))
	return key, hash
}
