package console

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.New("console").Funcs(functions).ParseFS(templateFiles, "templates/*.html"))

const (
	// loadTimeout bounds how long the page waits for the database.
	loadTimeout = 4 * time.Second
	// mergedApps is how many apps are shown together where none is chosen.
	mergedApps   = 10
	pageRoutes   = 50
	pageApps     = 25
	pageItems    = 20
	pageFailures = 10
)

// view is what a page, or one of its sections, is made of.
type view struct {
	params
	Now     time.Time
	Version string
	API     string
	Static  string // where the static files are
	// Signed is the name of the operator's key, empty where nobody has signed in; CSRF goes into forms.
	Signed, CSRF string
	HasOperators bool
	Flashes      []flash
	AppNames     []string // a few, to choose from
	AppCount     int
	NoSuchApp    bool

	Overview      *overview
	Routes        *routesView
	Notifications *notificationsView
	Token         *tokenView
	Apps          *appsView
	Feedback      *feedbackView
	Replicas      *replicasView

	scope scope
	refs  refs
}

// params are what the address says is shown.
type params struct {
	App    string // empty: all
	By     string // what lines of the plots are: app, route or lane
	State  string // of notifications
	Before string // cursor of the list of notifications
	ID     string // of the notification that is shown
	After  string // reference to the token that the failures follow
	Ref    string // reference to the device tokens that are looked up
	Edit   string // the app that is edited
	New    bool   // an app is added
	Search string // part of the apps' names
	Page   string // of the list of apps
	Trunk  string // page of the list of routes
}

func paramsOf(q url.Values) params {
	p := params{
		App: q.Get("app"), By: q.Get("by"), State: q.Get("state"), Before: q.Get("before"), ID: q.Get("id"),
		After: q.Get("after"), Ref: q.Get("token"), Edit: q.Get("edit"), New: q.Get("new") != "", Search: q.Get("q"),
		Page: q.Get("page"), Trunk: q.Get("routes"),
	}
	if p.By != "app" && p.By != "lane" {
		p.By = "route"
	}
	return p
}

// values are the params as a query, without what has its default.
func (p params) values() url.Values {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("app", p.App)
	if p.By != "route" {
		set("by", p.By)
	}
	set("state", p.State)
	set("before", p.Before)
	set("id", p.ID)
	set("after", p.After)
	set("token", p.Ref)
	set("edit", p.Edit)
	if p.New {
		q.Set("new", "1")
	}
	set("q", p.Search)
	set("page", p.Page)
	set("routes", p.Trunk)
	return q
}

// Query is the params as they are.
func (p params) Query() string { return p.values().Encode() }

// Link is the page's address with other params, at the section: name and value by turns, an empty value takes one away.
// What follows from one that changes goes too.
func (p params) Link(section string, changes ...string) string {
	q := p.values()
	for i := 0; i+1 < len(changes); i += 2 {
		name, value := changes[i], changes[i+1]
		for _, dependent := range dependents[name] {
			q.Del(dependent)
		}
		if value == "" {
			q.Del(name)
		} else {
			q.Set(name, value)
		}
	}
	link := Path
	if len(q) > 0 {
		link += "?" + q.Encode()
	}
	return link + "#" + section
}

// dependents are the params that mean nothing any more when another changes.
var dependents = map[string][]string{
	"app": {"state", "before", "id", "after", "token", "edit", "new", "routes"}, "state": {"before", "id", "after"},
	"before": {"id", "after"}, "id": {"after"}, "edit": {"new"}, "new": {"edit"}, "q": {"page"},
}

// scope are the apps that are shown.
type scope struct {
	apps []string
	// tooMany says that they are so many that one must be chosen where the database is asked for each.
	tooMany bool
}

// section is a part of the page that is loaded and fetched by itself.
type section struct {
	name string
	load func(k *Console, ctx context.Context, v *view)
}

var sections = []section{
	{"overview", (*Console).loadOverview}, {"routes", (*Console).loadRoutes},
	{"notifications", (*Console).loadNotifications}, {"tokens", (*Console).loadToken}, {"apps", (*Console).loadApps},
	{"feedback", (*Console).loadFeedback}, {"replicas", (*Console).loadReplicas},
}

// view is what every part of the page needs.
func (k *Console) view(r *http.Request) *view {
	v := &view{
		params: paramsOf(r.URL.Query()), Now: k.now(), Version: k.Version, API: k.API,
		Static: Path + "/static/" + staticVersion, HasOperators: k.Operators.HasOperators(), refs: k.refs,
	}
	if s, name := k.signedIn(r); s != nil {
		v.Signed, v.CSRF = name, s.csrf
	}
	apps := k.Apps.Names()
	v.AppCount = len(apps)
	for _, a := range apps {
		if len(v.AppNames) < pageItems && !a.Deleting {
			v.AppNames = append(v.AppNames, a.Name)
		}
	}
	switch {
	case v.App != "":
		v.scope.apps = []string{v.App}
		v.NoSuchApp = !slices.ContainsFunc(apps, func(a App) bool { return a.Name == v.App })
	case len(apps) > mergedApps:
		v.scope.tooMany = true
	default:
		for _, a := range apps {
			v.scope.apps = append(v.scope.apps, a.Name)
		}
	}
	return v
}

func (k *Console) servePage(w http.ResponseWriter, r *http.Request) {
	k.servePageWith(w, r, http.StatusOK)
}

// servePageWith serves the page, with what is to be told.
func (k *Console) servePageWith(w http.ResponseWriter, r *http.Request, status int, told ...flash) {
	v := k.view(r)
	if s, _ := k.signedIn(r); s != nil {
		v.Flashes = s.told()
	}
	v.Flashes = append(v.Flashes, told...)
	k.load(r.Context(), v)
	k.render(w, status, "page", v)
}

// load fills all sections in.
func (k *Console) load(ctx context.Context, v *view) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	var wg sync.WaitGroup
	panics := make(chan string, len(sections))
	for _, s := range sections {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil { // here it would end the process, and not only the request
					panics <- fmt.Sprintf("section %s: %v\n%s", s.name, p, debug.Stack())
				}
			}()
			s.load(k, ctx, v)
		})
	}
	wg.Wait()
	select {
	case p := <-panics:
		panic(p)
	default:
	}
}

// serveSection serves one section for htmx. Somebody who opens its address gets the page.
func (k *Console) serveSection(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("section")
	if name == "app-names" {
		k.serveAppNames(w, r)
		return
	}
	for _, s := range sections {
		if s.name != name {
			continue
		}
		v := k.view(r)
		if r.Header.Get("HX-Request") == "" {
			http.Redirect(w, r, v.Link(name), http.StatusSeeOther)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), loadTimeout)
		defer cancel()
		s.load(k, ctx, v)
		k.render(w, http.StatusOK, name, v)
		return
	}
	http.NotFound(w, r)
}

// serveAppNames serves the names that have a text in them, to choose from.
func (k *Console) serveAppNames(w http.ResponseWriter, r *http.Request) {
	text := strings.ToLower(r.URL.Query().Get("app"))
	v := &view{}
	for _, a := range k.Apps.Names() {
		if strings.Contains(a.Name, text) && len(v.AppNames) < pageItems {
			v.AppNames = append(v.AppNames, a.Name)
		}
	}
	k.render(w, http.StatusOK, "app-names", v)
}

// askForKey serves the page that is shown to who may not read, or not act.
func (k *Console) askForKey(w http.ResponseWriter, r *http.Request, status int, told string) {
	if r.Header.Get("HX-Request") != "" { // a section of a page whose session has ended: it is loaded anew
		w.Header().Set("HX-Refresh", "true")
	}
	v := &view{
		Now: k.now(), Version: k.Version, Static: Path + "/static/" + staticVersion,
		HasOperators: k.Operators.HasOperators(),
	}
	if told != "" {
		v.Flashes = []flash{{Text: told}}
	}
	k.render(w, status, "sign-in-page", v)
}

// render serves a template, whole or not at all.
func (k *Console) render(w http.ResponseWriter, status int, name string, v *view) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, v); err != nil {
		k.Log.Error("console page cannot be made", "template", name, "error", err)
		http.Error(w, "The page cannot be made. The log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // the client may be gone
}

// trouble is why a section has nothing to show.
type trouble struct {
	Problem
	// Away says that it is the database.
	Away bool
}

func (k *Console) trouble(err error) *trouble {
	if err == nil {
		return nil
	}
	p := k.explain(err)
	return &trouble{p, p.Status == http.StatusServiceUnavailable}
}
