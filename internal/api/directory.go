package api

import (
	"crypto/sha256"
	"fmt"
	"time"
)

// directory is the apps and keys that there are at one time. It is never changed, but replaced: a request sees one
// directory from its beginning to its end.
type directory struct {
	apps map[string]*App
	keys map[[sha256.Size]byte]*principal
}

// SetApps has the API serve these apps and operators' keys, and no others, from the next request on. With an error
// nothing changes. A key that was there before goes on with what it has used of its rate.
func (a *API) SetApps(apps []App, operators []Key) error {
	old := a.directory.Load()
	next := &directory{apps: make(map[string]*App, len(apps)), keys: make(map[[sha256.Size]byte]*principal)}
	add := func(app *App, key Key, owner string) error {
		if _, taken := next.keys[key.Hash]; taken {
			return fmt.Errorf("api: key %q of %s is there twice", key.Name, owner)
		}
		p := newPrincipal(app, key)
		if old != nil {
			if former := old.keys[key.Hash]; former != nil && former.key.Rate == key.Rate && former.key.Scope == key.Scope {
				p.rate = former.rate
			}
		}
		next.keys[key.Hash] = p
		return nil
	}
	for i := range apps {
		app := apps[i]
		if len(app.Platforms) == 0 {
			return fmt.Errorf("api: app %q has no platform", app.Name)
		}
		next.apps[app.Name] = &app
		for _, key := range app.Keys {
			if !key.Scope.Valid() {
				return fmt.Errorf("api: key %q of app %q: unknown scope %q", key.Name, app.Name, key.Scope)
			}
			if err := add(&app, key, fmt.Sprintf("app %q", app.Name)); err != nil {
				return err
			}
		}
	}
	for _, key := range operators {
		key.Scope = ScopeOperator
		if err := add(&App{}, key, "the operators"); err != nil {
			return err
		}
	}
	a.directory.Store(next)
	return nil
}

// stillTaken is errUnauthorized where the key, which was taken when its request began, is not any more for that app and
// scope. A request that may take minutes asks as it goes on.
func (a *API) stillTaken(p *principal) error {
	current := a.directory.Load().keys[p.key.Hash]
	if current == nil || current.key.expired(time.Now()) || current.key.Scope != p.key.Scope ||
		current.app.Name != p.app.Name {
		return explain(errUnauthorized, "The key is not taken any more.")
	}
	return nil
}

// expired reports whether the key is not to be taken any more.
func (k *Key) expired(now time.Time) bool { return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt) }
