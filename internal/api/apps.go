package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"

	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// Apps is what operators set while the service runs. Errors are, or wrap, the sentinels of internal/push, or are
// push.Faults; an app of the configuration file gives push.ErrConflict for what would change it.
type Apps interface {
	// ListApps are all entries by their names, Get one. An entry is a JSON object in the shape of the configuration's,
	// with name, source and keys, and without any secret.
	ListApps(ctx context.Context) ([]json.RawMessage, error)
	GetApp(ctx context.Context, name string) (json.RawMessage, error)
	// PutApp adds or changes an app, and returns its entry and whether it is new.
	PutApp(ctx context.Context, name string, entry push.JSON) (shown json.RawMessage, created bool, err error)
	// DeleteApp has the app take no request any more, and its tokens and notifications removed later.
	DeleteApp(ctx context.Context, name string) error
	// AppRemoval is what is left of an app that was deleted; push.ErrNotFound where nothing of such an app is.
	AppRemoval(ctx context.Context, name string) (AppRemoval, error)
	// Keys are the keys of an app. AddKey adds one; push.ErrConflict where the name or the hash is taken. DeleteKey
	// gives push.ErrNotFound where there is none of the name.
	Keys(ctx context.Context, app string) ([]AppKey, error)
	AddKey(ctx context.Context, app string, key Key) (AppKey, error)
	DeleteKey(ctx context.Context, app, name string) error
	// NewKey makes a key with its hash.
	NewKey(scope Scope) (key string, hash [sha256.Size]byte)
}

// AppRemoval is what is left of a deleted app, while it is removed.
type AppRemoval struct {
	Recipients    int64 `json:"recipients" doc:"Recipients that wait, and are cancelled"`
	Notifications int64 `json:"notifications" doc:"Counted up to 100000"`
	DeviceTokens  int64 `json:"device_tokens"`
	EventRows     int64 `json:"event_rows" doc:"Rows of events, each of which may have many; counted up to 100000"`
}

// AppKey is a key as it is kept.
type AppKey struct {
	Key
	CreatedAt time.Time // zero for one of the configuration file
}

// keyBody is a key in answers.
type keyBody struct {
	Name      string     `json:"name"`
	Scope     string     `json:"scope" enum:"register,send,admin"`
	SHA256    string     `json:"sha256" doc:"In hexadecimal: what is kept of the key"`
	Rate      int        `json:"rate" doc:"Requests a second, for each replica; 0: no limit"`
	ExpiresAt *time.Time `json:"expires_at" doc:"From when on it is refused; null: never"`
	CreatedAt *time.Time `json:"created_at" doc:"null for one of the configuration file"`
}

// newKeyBody is the answer to a new key, the only one that ever shows it.
type newKeyBody struct {
	KeyFields
	Key string `json:"key,omitempty" doc:"The key itself. It is kept nowhere and never shown again. Not where the request gave its hash"`
}

// KeyFields has capitals because huma passes over embedded types that are not exported.
type KeyFields = keyBody

// keyRequestBody documents what makes a key.
type keyRequestBody struct {
	Name      string    `json:"name" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9_.-]{1,64}$" doc:"Of letters, digits, -, _ and .; by it the key is revoked" example:"worker"`
	Scope     string    `json:"scope" enum:"register,send,admin" example:"send"`
	SHA256    string    `json:"sha256,omitempty" pattern:"^[0-9a-fA-F]{64}$" doc:"The hash of a key that you have made yourself; left out, one is made"`
	Rate      int       `json:"rate,omitempty" minimum:"0" maximum:"10000000" doc:"Requests a second, for each replica; 0: no limit"`
	ExpiresAt time.Time `json:"expires_at,omitempty" doc:"From when on it is refused; left out: never"`
}

// ShowKey is a key as answers have it.
func ShowKey(k AppKey) any { return showKey(k) }

func showKey(k AppKey) keyBody {
	body := keyBody{Name: k.Name, Scope: string(k.Scope), SHA256: hex.EncodeToString(k.Hash[:]), Rate: k.Rate}
	if !k.ExpiresAt.IsZero() {
		body.ExpiresAt = &k.ExpiresAt
	}
	if !k.CreatedAt.IsZero() {
		body.CreatedAt = &k.CreatedAt
	}
	return body
}

// maxEntry is the length of an app's entry in bytes.
const maxEntry = 1 << 20

func (a *API) routeApps() {
	entry := map[int]reflect.Type{200: reflect.TypeFor[appBody]()}
	put := map[int]reflect.Type{200: reflect.TypeFor[appBody](), 201: reflect.TypeFor[appBody]()}
	keyQuery := []parameter{{name: "name", required: true, longest: 64, example: ExampleKey, doc: "The key's name"}}
	a.serve(operation{
		id: "list-apps", method: http.MethodGet, path: "/v1/apps", scopes: forOperator, tag: tagApps,
		summary: "List apps", about: "Those of the configuration file and those that were set here, by their names.",
		answers: map[int]reflect.Type{200: reflect.TypeFor[listBody[appBody]]()},
	}, a.listApps)
	a.serve(operation{
		id: "get-app", method: http.MethodGet, path: "/v1/apps/{app}", scopes: forOperator, tag: tagApps,
		summary: "One app", about: "Its settings and keys. Credentials are never shown.", answers: entry, errors: []int{404},
	}, a.getApp)
	a.serve(operation{
		id: "put-app", method: http.MethodPut, path: "/v1/apps/{app}", scopes: forOperator, tag: tagApps, audit: "put app",
		summary: "Add an app, or change it",
		about: "In force on every replica within 5 seconds. The credentials are tried first, without a connection; they " +
			"are kept encrypted. " +
			"Those that are left out stay as they are, as do the keys where keys is left out; all else that is left out is " +
			"gone, or at its default. Where the gateway, feedback_address, token_url, ca or proxy changes that credentials " +
			"are used with, they must be given again. 409 for an app of the configuration file, and while an app of that " +
			"name is being removed.",
		body: reflect.TypeFor[appRequestBody](), example: exampleApp, answers: put, errors: []int{400, 409, 413, 415},
	}, a.putApp)
	a.serve(operation{
		id: "delete-app", method: http.MethodDelete, path: "/v1/apps/{app}", scopes: forOperator, tag: tagApps,
		audit:   "delete app",
		summary: "Remove an app", answers: map[int]reflect.Type{204: nil}, errors: []int{404, 409},
		about: "It takes no request any more, what waits is not sent, and its device tokens and notifications are removed " +
			"in the background.",
	}, a.deleteApp)
	a.serve(operation{
		id: "get-app-removal", method: http.MethodGet, path: "/v1/apps/{app}/removal", scopes: forOperator, tag: tagApps,
		summary: "What is left of an app that was removed", answers: map[int]reflect.Type{200: reflect.TypeFor[AppRemoval]()},
		errors: []int{404},
		about:  "404 where no removal is under way: before one, and when all is removed and the name can be had again.",
	}, a.getAppRemoval)
	a.serve(operation{
		id: "list-keys", method: http.MethodGet, path: "/v1/apps/{app}/keys", scopes: forOperator, tag: tagApps,
		summary: "List an app's keys", answers: map[int]reflect.Type{200: reflect.TypeFor[listBody[keyBody]]()},
		errors: []int{404},
	}, a.listKeys)
	a.serve(operation{
		id: "add-key", method: http.MethodPost, path: "/v1/apps/{app}/keys", scopes: forOperator, tag: tagApps,
		audit:   "add key",
		summary: "Make a key for an app", about: "The answer is the only one that shows it.",
		body: reflect.TypeFor[keyRequestBody](), example: exampleKey,
		answers: map[int]reflect.Type{201: reflect.TypeFor[newKeyBody]()},
		errors:  []int{400, 404, 409, 413, 415},
	}, a.addKey)
	a.serve(operation{
		id: "revoke-key", method: http.MethodDelete, path: "/v1/apps/{app}/keys/{key}", scopes: forOperator, tag: tagApps,
		audit:   "revoke key",
		summary: "Revoke a key", about: "It is refused by every replica within 5 seconds.",
		answers: map[int]reflect.Type{204: nil}, errors: []int{404, 409},
	}, func(ctx context.Context, x *exchange, r *http.Request) error {
		name, err := pathValue(r, "key")
		if err != nil {
			return push.Faults{{Location: "path.key", Message: "must be percent-encoded"}}
		}
		return a.deleteKey(ctx, x, r, name)
	})
	a.serve(operation{
		id: "revoke-key-by-query", method: http.MethodDelete, path: "/v1/apps/{app}/keys", scopes: forOperator, tag: tagApps,
		audit:   "revoke key",
		summary: "Revoke a key, named in the query", query: keyQuery, answers: map[int]reflect.Type{204: nil},
		errors: []int{404, 409},
	}, func(ctx context.Context, x *exchange, r *http.Request) error {
		return a.deleteKey(ctx, x, r, x.query["name"])
	})
}

var (
	appName = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)
	keyName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
)

// pathApp is the app's name in the path.
func (x *exchange) pathApp(r *http.Request) (string, error) {
	name, err := pathValue(r, "app")
	if err != nil || !appName.MatchString(name) {
		return "", push.Faults{{Location: "path.app", Message: "must have 1 to 64 of a-z, 0-9, - and _"}}
	}
	x.target = name
	return name, nil
}

// explainApp gives push.ErrNotFound its text.
func explainApp(err error) error { return explainIf(err, push.ErrNotFound, "There is no such app.") }

func (a *API) listApps(ctx context.Context, x *exchange, _ *http.Request) error {
	all, err := a.operated.ListApps(ctx)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, listBody[json.RawMessage]{Items: all})
}

func (a *API) getApp(ctx context.Context, x *exchange, r *http.Request) error {
	name, err := x.pathApp(r)
	if err != nil {
		return err
	}
	shown, err := a.operated.GetApp(ctx, name)
	if err != nil {
		return explainApp(err)
	}
	return x.answer(http.StatusOK, shown)
}

func (a *API) putApp(ctx context.Context, x *exchange, r *http.Request) error {
	name, err := x.pathApp(r)
	if err != nil {
		return err
	}
	var entry push.JSON
	err = x.readBody(r, maxEntry, func(body push.JSON) error {
		var rd reader
		if body == nil || !body.IsObject() {
			rd.fault("body", "must be an object")
		} else {
			rd.faults = append(rd.faults, body.DuplicateKeys("body")...)
		}
		entry = append(push.JSON(nil), body...)
		return rd.err()
	})
	if err != nil {
		return err
	}
	shown, created, err := a.operated.PutApp(ctx, name, entry)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return x.answer(status, shown)
}

func (a *API) deleteApp(ctx context.Context, x *exchange, r *http.Request) error {
	name, err := x.pathApp(r)
	if err != nil {
		return err
	}
	if err := a.operated.DeleteApp(ctx, name); err != nil {
		return explainApp(err)
	}
	x.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) getAppRemoval(ctx context.Context, x *exchange, r *http.Request) error {
	name, err := x.pathApp(r)
	if err != nil {
		return err
	}
	left, err := a.operated.AppRemoval(ctx, name)
	if err != nil {
		return explainIf(err, push.ErrNotFound, "No app of this name is being removed.")
	}
	return x.answer(http.StatusOK, left)
}

func (a *API) listKeys(ctx context.Context, x *exchange, r *http.Request) error {
	name, err := x.pathApp(r)
	if err != nil {
		return err
	}
	keys, err := a.operated.Keys(ctx, name)
	if err != nil {
		return explainApp(err)
	}
	body := listBody[keyBody]{Items: make([]keyBody, len(keys))}
	for i, k := range keys {
		body.Items[i] = showKey(k)
	}
	return x.answer(http.StatusOK, body)
}

func (a *API) addKey(ctx context.Context, x *exchange, r *http.Request) error {
	name, err := x.pathApp(r)
	if err != nil {
		return err
	}
	var key Key
	hashed := false
	err = x.readBody(r, a.maxBody, func(body push.JSON) error {
		var rd reader
		key, hashed = rd.key("body", body)
		return rd.err()
	})
	if err != nil {
		return err
	}
	x.about = key.Name
	text := ""
	if !hashed {
		text, key.Hash = a.operated.NewKey(key.Scope)
	}
	added, err := a.operated.AddKey(ctx, name, key)
	if err != nil {
		return explainApp(explainIf(err, push.ErrConflict,
			"The app has a key of this name, or the key is in use already; or the app is of the configuration file."))
	}
	return x.answer(http.StatusCreated, newKeyBody{showKey(added), text})
}

func (rd *reader) key(at string, v push.JSON) (key Key, hashed bool) {
	rd.object(at, v, func(name string, v push.JSON) bool {
		at := at + "." + name
		wrong := ""
		switch name {
		case "name":
			if key.Name, wrong = readText(v, 64); wrong == "" && !keyName.MatchString(key.Name) {
				wrong = "must have 1 to 64 letters, digits, -, _ and ."
			}
		case "scope":
			if key.Scope = Scope(v.Text()); !key.Scope.Valid() {
				wrong = "must be one of: register, send, admin"
			}
		case "sha256":
			b, err := hex.DecodeString(v.String())
			if err != nil || len(b) != len(key.Hash) {
				wrong = "must be a SHA-256 in hexadecimal, 64 digits"
			}
			copy(key.Hash[:], b)
			hashed = true
		case "rate":
			n, ok := v.Uint(10_000_000)
			if !ok {
				wrong = "must be a whole number from 0 to 10000000"
			}
			key.Rate = int(n)
		case "expires_at":
			if v.IsNull() {
				return true
			}
			t, ok := readTime(v)
			if !ok || !t.After(time.Now()) {
				wrong = "must be a time to come, like 2027-01-31T12:00:00Z"
			}
			key.ExpiresAt = t
		default:
			return false
		}
		if wrong != "" {
			rd.fault(at, wrong)
		}
		return true
	})
	if key.Name == "" && len(rd.faults) == 0 {
		rd.fault(at+".name", "is missing")
	}
	if key.Scope == "" && len(rd.faults) == 0 {
		rd.fault(at+".scope", "is missing")
	}
	return key, hashed
}

func (a *API) deleteKey(ctx context.Context, x *exchange, r *http.Request, key string) error {
	name, err := x.pathApp(r)
	if err != nil {
		return err
	}
	x.about = checkedName(key)
	if err := a.operated.DeleteKey(ctx, name, key); err != nil {
		return explainIf(err, push.ErrNotFound, "There is no such app, or it has no such key.")
	}
	x.WriteHeader(http.StatusNoContent)
	return nil
}

// checkedName is a key's name as it may be written to the log.
func checkedName(name string) string {
	if keyName.MatchString(name) {
		return name
	}
	return "?"
}
