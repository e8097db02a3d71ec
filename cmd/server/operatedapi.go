package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/apps"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/push"
)

// operated as api.Apps: what operators see and set.

var errFile = api.Explain(fmt.Errorf("the app is of the configuration file: %w", push.ErrConflict),
	"The app is of the configuration file, and is changed there.")

var errNoApp = api.Explain(push.ErrNotFound, "There is no such app.")

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
	return nil, nil, errNoApp
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
	type listed struct {
		name   string
		file   *config.App
		stored *apps.App
	}
	var list []listed
	for i := range o.file {
		list = append(list, listed{o.file[i].Name, &o.file[i], nil})
	}
	for i := range o.stored {
		if s := &o.stored[i]; !s.Deleting {
			list = append(list, listed{s.Name, nil, s})
		}
	}
	slices.SortStableFunc(list, func(a, b listed) int { return strings.Compare(a.name, b.name) })
	// What the file says goes before what is stored.
	list = slices.CompactFunc(list, func(a, b listed) bool { return a.name == b.name })
	all := []json.RawMessage{}
	for _, a := range list {
		shown, err := show(a.file, a.stored)
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
			keys = append(keys, api.AppKey{Key: apiKey(k)})
		}
		return keys
	}
	for _, k := range stored.Keys {
		keys = append(keys, api.AppKey{Key: apiKey(configKey(k)), CreatedAt: k.CreatedAt})
	}
	return keys
}

// PutApp implements api.Apps.
func (o *operated) PutApp(ctx context.Context, name string, entry push.JSON) (json.RawMessage, bool, error) {
	file, _, err := o.current(ctx, name)
	switch {
	case file != nil:
		return nil, false, errFile
	case err != nil && !errors.Is(err, push.ErrNotFound):
		return nil, false, err
	case !o.masterKey:
		return nil, false, api.Explain(push.ErrConflict,
			"The configuration has no master_key, under which credentials are kept.")
	}
	entry = settable(entry)
	keys, replace, err := o.entryKeys(name, entry)
	if err != nil {
		return nil, false, err
	}
	o.mu.Lock()
	webhooks := o.webhooks
	o.mu.Unlock()
	created, err := o.store.Put(ctx, name, keys, replace, func(before []byte) ([]byte, error) {
		doc := []byte(entry)
		if before != nil {
			var err error
			if doc, err = config.MergeApp(doc, before); err != nil {
				if moved, is := errors.AsType[config.Faults](err); is {
					err = asFaults(moved)
				}
				return nil, err
			}
		}
		app, faults := config.ParseGivenApp(name, doc)
		if faults = append(faults, webhooks.Check(&app)...); len(faults) > 0 {
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

// settable is an entry without what is only shown, and what its keys have not, so that one that was shown can be given
// back.
func settable(entry push.JSON) push.JSON {
	return without(entry, func(name, value push.JSON) (push.JSON, bool) {
		switch {
		case name.Is("source") || name.Is("created_at") || name.Is("updated_at"):
			return nil, true
		case name.Is("keys") && value.IsArray():
			keys := []byte{'['}
			for i, key := range value.Elements() {
				if i > 0 {
					keys = append(keys, ',')
				}
				keys = append(keys, without(key, func(name, value push.JSON) (push.JSON, bool) {
					return value, name.Is("created_at") || value.IsNull()
				})...)
			}
			return append(keys, ']'), false
		}
		return value, false
	})
}

// without is an object without some of its members, and what is no object as it is. of says what becomes of a member,
// and whether it is left out.
func without(object push.JSON, of func(name, value push.JSON) (push.JSON, bool)) push.JSON {
	if !object.IsObject() {
		return object
	}
	b := push.JSON{'{'}
	for name, value := range object.Members() {
		value, out := of(name, value)
		if out {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}')
}

// entryKeys are the keys that an entry has, and whether it says which it is to have. A null says nothing, as elsewhere.
func (o *operated) entryKeys(name string, entry push.JSON) (keys []apps.Key, replace bool, err error) {
	for member, value := range entry.Members() {
		replace = replace || member.Is("keys") && !value.IsNull()
	}
	app, faults := config.ParseGivenApp(name, entry)
	// The others may be of what is left out, and stays.
	others := func(f config.Fault) bool { return !strings.HasPrefix(f.Setting, "keys") }
	if faults = slices.DeleteFunc(faults, others); len(faults) > 0 {
		return nil, false, asFaults(faults)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, k := range app.Keys {
		if api.CheckKeyName(k.Name) != nil {
			return nil, false, push.Faults{{Location: fmt.Sprintf("body.keys[%d].name", i), Message: api.KeyNameRule}}
		}
		if wrong := config.CheckKey(k.SHA256); wrong != "" {
			return nil, false, push.Faults{{Location: fmt.Sprintf("body.keys[%d].sha256", i), Message: wrong}}
		}
		if o.isFileKey(k.SHA256) {
			return nil, false, api.Explain(push.ErrConflict, "A key of it is one of the configuration file.")
		}
		keys = append(keys, apps.Key{Name: k.Name, Scope: k.Scope, Hash: k.SHA256, Rate: k.Rate, ExpiresAt: k.ExpiresAt})
	}
	return keys, replace, nil
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
	if _, err := o.changeable(ctx, name); err != nil {
		return err
	}
	if err := o.store.Delete(ctx, name); err != nil {
		return err
	}
	o.look(ctx)
	return nil
}

// look has what was just stored be in force here too. What was stored is done, whatever becomes of that: the next look,
// of which there is one every few seconds, tries it again.
func (o *operated) look(ctx context.Context) {
	if err := o.refresh(ctx); err != nil {
		o.warnLater(err)
	}
}

func (o *operated) warnLater(err error) {
	o.log.Warn("what was stored is in force here a little later", "error", err)
}

// changeable is the app as it is stored, where it is one that can be changed.
func (o *operated) changeable(ctx context.Context, name string) (*apps.App, error) {
	file, stored, err := o.current(ctx, name)
	if file != nil {
		return nil, errFile
	}
	return stored, err
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
	stored, err := o.changeable(ctx, app)
	if err != nil {
		return api.AppKey{}, err
	}
	if stored.Err != nil {
		return api.AppKey{}, api.Explain(push.ErrConflict,
			"The app is not in force, as its entry cannot be decrypted with master_key: give its credentials again.")
	}
	if wrong := config.CheckKey(key.Hash); wrong != "" {
		return api.AppKey{}, push.Faults{{Location: "body.sha256", Message: wrong}}
	}
	o.mu.Lock()
	taken := o.isFileKey(key.Hash)
	o.mu.Unlock()
	if taken {
		return api.AppKey{}, push.ErrConflict
	}
	err = o.store.AddKey(ctx, app, apps.Key{Name: key.Name, Scope: string(key.Scope), Hash: key.Hash, Rate: key.Rate,
		ExpiresAt: key.ExpiresAt})
	if err != nil {
		return api.AppKey{}, err
	}
	keys, err := o.Keys(ctx, app)
	if err != nil { // the key itself is shown but once
		o.warnLater(err)
		return api.AppKey{Key: key, CreatedAt: time.Now().UTC().Truncate(time.Microsecond)}, nil
	}
	if i := slices.IndexFunc(keys, func(k api.AppKey) bool { return k.Name == key.Name }); i >= 0 {
		return keys[i], nil
	}
	return api.AppKey{}, push.ErrNotFound // revoked again already
}

// DeleteKey implements api.Apps.
func (o *operated) DeleteKey(ctx context.Context, app, name string) error {
	if _, err := o.changeable(ctx, app); err != nil {
		return err
	}
	err := o.store.DeleteKey(ctx, app, name)
	if errors.Is(err, push.ErrNotFound) {
		return api.Explain(err, "The app has no such key.")
	}
	if err != nil {
		return err
	}
	o.look(ctx)
	return nil
}

// NewKey implements api.Apps.
func (o *operated) NewKey(scope api.Scope) (string, [sha256.Size]byte) {
	key, hash := config.NewKey(string(scope))
	return key, hash
}
