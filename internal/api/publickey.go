package api

import (
	"context"
	"net/http"

	"github.com/lhspn/lhspn/internal/push"
)

// PublicKey is a Platform whose clients need a key to subscribe with. It is empty while there is none that can be used.
type PublicKey interface{ PublicKey() string }

var publicKeyQuery = []parameter{{name: "app", longest: maxField,
	doc: "The app's name. It may be left out where only one app has the platform"}}

// getPublicKey answers with the key that clients of the app subscribe with. It is no secret.
func (a *API) getPublicKey(platform string) endpoint {
	return func(_ context.Context, x *exchange, _ *http.Request) error {
		p, err := a.publicKeyOf(x.query["app"], platform)
		if err != nil {
			return err
		}
		key := p.PublicKey()
		if key == "" {
			return explain(push.ErrUnavailable, "The app's key cannot be used just now.")
		}
		return x.answer(http.StatusOK, publicKeyBody{key})
	}
}

// publicKeyOf is the platform of the app; where that is not named, of the only app that has it.
func (a *API) publicKeyOf(name, platform string) (found PublicKey, err error) {
	if name != "" {
		app := a.directory.Load().apps[name]
		if app == nil {
			return nil, explain(push.ErrNotFound, "There is no such app.")
		}
		p, has := app.platform(platform).(PublicKey)
		if !has {
			return nil, explain(push.ErrNotFound, "The app does not have this platform.")
		}
		return p, nil
	}
	for _, app := range a.directory.Load().apps {
		p, has := app.platform(platform).(PublicKey)
		if has && found != nil {
			return nil, push.Faults{{Location: "query.app", Message: "is missing: several apps have this platform"}}
		}
		if has {
			found = p
		}
	}
	if found == nil {
		return nil, explain(push.ErrNotFound, "No app has this platform.")
	}
	return found, nil
}
