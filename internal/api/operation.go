package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// operation is a route: what it takes and answers, for the router, the document and the metrics alike.
type operation struct {
	id, method, path, tag, summary, about string
	scopes                                scopes // none: it needs no key
	query                                 []parameter
	errors                                []int // beside those that every operation has

	body        reflect.Type
	example     string // of the body, as JSON: it works as it is
	media       string // of the body; JSON where empty
	optional    bool   // the body may be left out
	answers     map[int]reflect.Type
	answerMedia string // JSON where empty
	sse         bool   // its answer may be had as server-sent events, too
	location    string // what the answer's Location names; empty: it has none
	idempotent  bool   // it takes an Idempotency-Key
	userToken   bool   // it takes an X-User-Token

	audit   string        // the act, where a line is to be written of it; its caller has a key
	timeout time.Duration // 0: the API's own
	streams bool          // it has no timeout as a whole
	paced   bool          // others go before it
}

// commonErrors are the errors that every operation may give that asks for a key.
var commonErrors = []int{401, 403, 422, 429, 500, 503}

// codes are the statuses that the operation may answer.
func (o *operation) codes() []int {
	codes := slices.Clone(o.errors)
	if o.scopes == 0 {
		codes = append(codes, 422, 429, 500, 503)
	} else {
		codes = append(codes, commonErrors...)
	}
	for status := range o.answers {
		codes = append(codes, status)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// endpoint is a handler that returns what went wrong instead of writing it.
type endpoint func(ctx context.Context, x *exchange, r *http.Request) error

// serve registers an operation: who asks, whether they may, with which parameters, in what time. It is also what
// /openapi.json shows.
func (a *API) serve(o operation, handle endpoint) {
	route := a.metrics.route(o.method, o.path, append(o.codes(), statusGivenUp)...)
	timeout := o.timeout
	switch {
	case o.streams:
		timeout = 0
	case timeout == 0:
		timeout = a.timeout
	}
	a.document.add(&o)
	a.router.MethodFunc(o.method, o.path, func(w http.ResponseWriter, r *http.Request) {
		x := w.(*exchange) // ServeHTTP is the only way in
		x.route = route
		if !o.paced {
			a.pace.another(x.start)
		} else if err := a.pace.turn(r.Context(), x.start); err != nil {
			x.fail(err)
			return
		}
		if o.audit != "" {
			defer func() {
				if x.who != nil && x.who.key.Scope.set()&o.scopes != 0 {
					x.audit(r, o.audit, time.Since(x.start))
				}
			}()
		}
		if o.scopes != 0 {
			if err := x.authorize(r, o.scopes); err != nil {
				x.fail(err)
				return
			}
		} else if err := x.limitAddress(r); err != nil {
			x.fail(err)
			return
		}
		var err error
		if x.query, err = readQuery(r.URL.RawQuery, o.query); err != nil {
			x.fail(err)
			return
		}
		ctx := r.Context()
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		if timeout > WriteTimeout {
			takenWithin(x, timeout+progress)
		}
		if err := handle(ctx, x, r); err != nil {
			x.fail(err)
		}
	})
}

// takenWithin has the answer be taken within the time, as far as the listener has deadlines.
func takenWithin(w http.ResponseWriter, d time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
}

// parameter is one of an operation's query: a text, or a whole number where most is not 0.
type parameter struct {
	name, doc, example string
	enum               []string // a text is one of these
	longest            int      // bytes of a text
	least, most        int
	otherwise          string // the value where it is left out
	required           bool
	// mayBeEmpty says that an empty one is as good as none. Of others it is a fault: a caller's variable that is not set
	// must not drop a filter, and ?dry_run must not send.
	mayBeEmpty bool
}

// The parameters of every list.
var (
	limitParameter = parameter{
		name: "limit", least: 1, most: 1000, otherwise: "100", doc: "Items of the answer at the most",
	}
	cursorParameter = parameter{name: "cursor", longest: 2048, doc: "next_cursor of the page before", mayBeEmpty: true}
)

// query is the values of an operation's parameters, checked, by their names.
type query map[string]string

func (q query) number(name string) int {
	n, _ := strconv.Atoi(q[name]) // readQuery has checked it; 0 where it was left out
	return n
}

// longestParameter is more than the length of any parameter's name.
const longestParameter = 20

// readQuery takes each known parameter once.
func readQuery(raw string, known []parameter) (query, error) {
	if raw == "" && !slices.ContainsFunc(known, func(p parameter) bool { return p.otherwise != "" || p.required }) {
		return nil, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, push.Faults{{Location: "query", Message: "must be percent-encoded: a % is written %25, a semicolon %3B"}}
	}
	var faults push.Faults
	q := make(query, len(known))
	for _, p := range known {
		given := values[p.name]
		delete(values, p.name)
		switch {
		case len(given) > 1:
			faults = append(faults, push.Fault{Location: "query." + p.name, Message: "must be given once"})
		case p.required && (len(given) == 0 || given[0] == ""):
			faults = append(faults, push.Fault{Location: "query." + p.name, Message: "is missing"})
		case !p.mayBeEmpty && len(given) == 1 && given[0] == "":
			faults = append(faults, push.Fault{Location: "query." + p.name, Message: "must not be empty"})
		case len(given) == 0 || given[0] == "":
			if p.otherwise != "" {
				q[p.name] = p.otherwise
			}
		default:
			if wrong := p.check(given[0]); wrong != "" {
				faults = append(faults, push.Fault{Location: "query." + p.name, Message: wrong})
			}
			q[p.name] = given[0]
		}
	}
	for name := range values {
		location := "query"
		if isName(name) {
			location += "." + name
		}
		faults = append(faults, push.Fault{Location: location, Message: "is not a known parameter"})
	}
	if len(faults) > 0 {
		slices.SortFunc(faults, func(a, b push.Fault) int { return strings.Compare(a.Location, b.Location) })
		return nil, faults
	}
	return q, nil
}

// isName reports whether the name may be repeated in an answer: others come from the caller and may be anything.
func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c != '_' && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= longestParameter
}

func (p *parameter) check(value string) (wrong string) {
	if p.most > 0 {
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || int(n) < p.least || int(n) > p.most {
			return "must be a whole number from " + strconv.Itoa(p.least) + " to " + strconv.Itoa(p.most)
		}
		return ""
	}
	if p.enum != nil && !slices.Contains(p.enum, value) {
		return "must be one of: " + strings.Join(p.enum, ", ")
	}
	if p.longest > 0 && len(value) > p.longest {
		return "must have at most " + strconv.Itoa(p.longest) + " bytes, and has " + strconv.Itoa(len(value))
	}
	return checkText(value)
}

// pathValue is a part of the path, unescaped: clients escape more or less of it.
func pathValue(r *http.Request, name string) (string, error) {
	value := chi.URLParam(r, name)
	if r.URL.RawPath == "" {
		return value, nil
	}
	return url.PathUnescape(value)
}

// pathToken is the device token in the path, of one of the app's platforms.
func (x *exchange) pathToken(r *http.Request) (push.Token, error) {
	return x.readPathToken(r, x.who.app.parseToken)
}

// formerToken is the device token in the path, which may also be of a platform that the app has no more: what is left
// of it can be looked at and removed. Nobody is there to say more about it than that it is well-formed.
func (a *API) formerToken(x *exchange, r *http.Request) (push.Token, error) {
	return x.readPathToken(r, func(written string) (push.Token, error) {
		t, err := x.who.app.parseToken(written)
		if !errors.Is(err, errNoPlatform) {
			return t, err
		}
		former, parseErr := push.ParseToken(written)
		if parseErr != nil || !slices.Contains(a.platforms, former.PlatformName()) {
			return "", err
		}
		return former, nil
	})
}

func (x *exchange) readPathToken(r *http.Request, parse func(written string) (push.Token, error)) (push.Token, error) {
	written, err := pathValue(r, "token")
	if err != nil {
		return "", push.Faults{{Location: "path.token", Message: "must be percent-encoded"}}
	}
	t, err := parse(written)
	if err != nil {
		return "", push.Faults{{Location: "path.token", Message: err.Error()}}
	}
	x.token = t.Short()
	return t, nil
}

// canonicalID is the length of an id, digits and hyphens: uuid.Parse takes other forms too.
const canonicalID = 36

// pathID is the notification's id in the path.
func pathID(r *http.Request) (uuid.UUID, error) {
	text := chi.URLParam(r, "id")
	id, err := uuid.Parse(text)
	if err != nil || len(text) != canonicalID {
		return uuid.UUID{}, push.Faults{{Location: "path.id", Message: "must be a UUID"}}
	}
	return id, nil
}
