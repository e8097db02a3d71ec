package tokens

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// The kinds of device_token_index: by what a device is found.
const (
	kindUser   = "u"
	kindTag    = "t"
	kindDevice = "d"
	// kindEnvironment finds the sandbox tokens, which are few among many. Production tokens have no such row: where
	// they are the many, a scan of the registry finds them as well.
	kindEnvironment = "e"
	// kindClaim is of rows that no transaction leaves behind: see contend.
	kindClaim = "c"
)

// tokenList is the tokens, in their order, of the index rows with one of the values.
type tokenList struct {
	kind   string
	values []string
}

// maxUnion is how many values of a list are read as lists of their own, each already in the tokens' order. Beyond it,
// and for users, who have few devices each, the rows of all values are sorted anew for each page.
const maxUnion = 100

// merged reports whether the list is read as several, one for each value.
func (st tokenList) merged() bool {
	return len(st.values) > 1 && len(st.values) <= maxUnion && st.kind != kindUser
}

// leastList is how much of each of many lists is read at the least.
const leastList = 64

// bound is how far those several lists can be read together where share rows are read of each: to the last token of the
// one that ends first; empty where all of them end before. Beyond it a list that was not read to its end may have
// tokens.
func (sel *selection) bound(
	ctx context.Context, q sqlx.QueryerContext, st tokenList, after push.Token, share int,
) (push.Token, error) {
	s := newStatement("SELECT MIN(last) FROM (")
	for i := range st.values {
		if i > 0 {
			s.add(" UNION ALL ")
		}
		s.add("SELECT COUNT(*) AS n, MAX(token) AS last FROM (")
		tokenList{st.kind, st.values[i : i+1]}.appendTokens(s, sel.app, after, share)
		s.add(") AS v")
	}
	s.add(") AS u WHERE n = ?", share)
	var last []byte
	err := s.query(ctx, q, []any{&last}, func() error { return nil })
	return push.Token(last), err
}

// appendBounded appends a SELECT of all their tokens after after and up to bound, of which each list has at most
// share.
func (st tokenList) appendBounded(s *statement, app string, after, bound push.Token, share int) {
	s.add("SELECT token FROM (")
	for i := range st.values {
		if i > 0 {
			s.add(" UNION ")
		}
		s.add("SELECT token FROM (")
		tokenList{st.kind, st.values[i : i+1]}.appendTokens(s, app, after, share)
		s.add(") AS v")
	}
	s.add(") AS u")
	if bound != "" {
		s.add(" WHERE token <= ?", []byte(bound))
	}
}

// appendTokens appends a SELECT of the list's next tokens.
func (st tokenList) appendTokens(s *statement, app string, after push.Token, limit int) {
	const from = " FROM device_token_index WHERE app = ? AND kind = ? AND value"
	switch {
	case len(st.values) == 1:
		s.add("SELECT token"+from+" = ? AND token > ? ORDER BY token LIMIT ?", app, st.kind, []byte(st.values[0]),
			[]byte(after), limit)
	case st.kind == kindUser || len(st.values) > maxUnion:
		s.add("SELECT DISTINCT token"+from+" IN", app, st.kind).list(len(st.values),
			func(i int) any { return []byte(st.values[i]) }).
			add(" AND token > ? ORDER BY token LIMIT ?", []byte(after), limit)
	default:
		// The first of each list hold the first of all of them.
		s.add("SELECT token FROM (")
		for i := range st.values {
			if i > 0 {
				s.add(" UNION ")
			}
			s.add("SELECT token FROM (")
			tokenList{st.kind, st.values[i : i+1]}.appendTokens(s, app, after, limit)
			s.add(") AS v")
		}
		s.add(") AS u ORDER BY token LIMIT ?", limit)
	}
}

// selection finds devices page by page, in the tokens' order. It reads the sparsest of its lists and looks the devices
// up, so that its cost is that of the fewest tokens that any one condition leaves, and not that of the registry.
// Without lists it reads the registry itself.
type selection struct {
	app     string
	columns string // of device_tokens to be scanned after the token
	lists   []tokenList
	// The conditions that each device is checked for.
	environment push.Route   // empty: either
	routes      []push.Route // none: any
	platforms   []string     // none: any
	idleBefore  time.Time    // zero: any
	anyKind     bool
	kind        push.Kind
	kindOf      string     // empty: any
	userID      string     // empty: any
	tags        *push.Tags // nil: any
	// scan is the number of tokens after which reading stops although too few of them passed; 0: none.
	scan int
	// badges says that the column badge is the last of columns.
	badges bool
	// lock ends the SELECT when the registry itself is read.
	lock string
	// passedOver counts the rows among those scanned that did not meet the conditions.
	passedOver int
}

// addEnvironment makes the environment one more list where it has one. The other conditions must then be checked for
// each device: any list may become the one that is read.
func (sel *selection) addEnvironment() {
	if sel.environment == push.Sandbox {
		sel.lists = append(sel.lists, tokenList{kindEnvironment, []string{string(push.Sandbox)}})
	}
}

// The rows that are read at once grow when few of them pass the conditions.
const maxRead = 8192

// maxScan bounds what a page of an audience costs where conditions that many tokens meet are met by few together: a
// transaction must not last as long as the registry is large.
const maxScan = 4 * maxRead

// each scans up to limit devices after after into dest, which belongs to r, and calls fn for each. It returns the token
// after which to go on; empty when those were the last.
func (sel *selection) each(
	ctx context.Context, q sqlx.QueryerContext, r *row, dest []any, after push.Token, limit int, fn func() error,
) (push.Token, error) {
	scanned, wantsDefault := 0, sel.wants(nil)
	after = max(after, sel.start())
	for found, read := 0, limit; ; read = min(4*read, max(maxRead, limit)) {
		s := newStatement("")
		more := true // there may be more than was asked for, where as much was found
		var bound push.Token
		if len(sel.lists) == 0 {
			s.add("SELECT token, "+sel.columns+" FROM device_tokens WHERE app = ? AND token > ? ORDER BY token LIMIT ?",
				sel.app, []byte(after), read).add(sel.lock)
		} else {
			st, err := sel.sparsest(ctx, q, after)
			if err != nil {
				s.free()
				return "", err
			}
			s.add("SELECT c.token, " + sel.columns + " FROM (")
			if st.merged() {
				share := max(leastList, read/len(st.values))
				if bound, err = sel.bound(ctx, q, st, after, share); err != nil {
					s.free()
					return "", err
				}
				more = bound != ""
				st.appendBounded(s, sel.app, after, bound, share)
			} else {
				st.appendTokens(s, sel.app, after, read)
			}
			s.add(") AS c LEFT JOIN device_tokens d ON d.app = ? AND d.token = c.token ORDER BY c.token", sel.app)
		}
		rows := 0
		var last []byte
		var skip push.Token
		ends := false // with a platform that is not wanted, and none after it is
		err := s.query(ctx, q, dest, func() error {
			rows++
			if found == limit || skip != "" || ends {
				return nil
			}
			prefix := push.Prefix(r.token)
			if len(prefix) == 0 && !wantsDefault || len(prefix) > 0 && !sel.wants(prefix) {
				sel.passedOver++
				skip, ends = sel.behind(prefix, r.token)
				return nil
			}
			last = append(last[:0], r.token...)
			if !sel.matches(r, len(prefix) == 0) {
				sel.passedOver++
				return nil
			}
			found++
			return fn()
		})
		if err != nil {
			return "", err
		}
		after, scanned = push.Token(last), scanned+rows
		switch {
		case ends:
			return "", nil
		case found == limit:
			return after, nil
		case skip != "":
			after = skip
		case bound != "":
			after = bound
		case rows < read || !more:
			return "", nil
		}
		if sel.scan > 0 && scanned >= sel.scan {
			return after, nil
		}
	}
}

// matches checks the conditions. Only tokens of the default platform have a kind.
func (sel *selection) matches(r *row, hasKind bool) bool {
	if r.environment == nil { // an index row without its device
		return false
	}
	if sel.environment != "" && string(r.environment) != string(sel.environment) || sel.userID != "" &&
		string(r.userID) != sel.userID {
		return false
	}
	if len(sel.routes) > 0 && !slices.Contains(sel.routes, environment(r.environment)) {
		return false
	}
	if !sel.idleBefore.IsZero() && !r.lastUpdated.Before(sel.idleBefore) {
		return false
	}
	if hasKind && !sel.anyKind && (string(r.kind) != string(sel.kind) || sel.kindOf != "" &&
		string(r.kindOf) != sel.kindOf) {
		return false
	}
	if sel.tags == nil {
		return true
	}
	tags := decodeTags(r.tags)
	has := func(tag string) bool { return slices.Contains(tags, tag) }
	hasNot := func(tag string) bool { return !has(tag) }
	return (len(sel.tags.Any) == 0 || slices.ContainsFunc(sel.tags.Any, has)) &&
		!slices.ContainsFunc(sel.tags.All, hasNot) && !slices.ContainsFunc(sel.tags.None, has)
}

// sparsest is the list that ends within its next few tokens, or else the one whose tokens reach farthest.
func (sel *selection) sparsest(ctx context.Context, q sqlx.QueryerContext, after push.Token) (tokenList, error) {
	if len(sel.lists) == 1 {
		return sel.lists[0], nil
	}
	const n = 128 // enough to tell
	s := newStatement("")
	for i, st := range sel.lists {
		if i > 0 {
			s.add(" UNION ALL ")
		}
		s.add("SELECT ? AS list, COUNT(*) AS tokens, MAX(token) AS last FROM (", i)
		st.appendTokens(s, sel.app, after, n)
		s.add(") AS s")
	}
	var i, tokens, best int
	fewest, farthest := n+1, ""
	var last sql.RawBytes
	err := s.query(ctx, q, []any{&i, &tokens, &last}, func() error {
		if tokens < fewest && tokens < n || fewest >= n && tokens == n && string(last) > farthest {
			best, fewest, farthest = i, tokens, string(last)
		}
		return nil
	})
	return sel.lists[best], err
}

// AudiencePage returns up to limit recipients of the audience whose tokens come after after, in the tokens' order, the
// route of each, and the token after which the next page goes on; it is empty after the last page. A page costs what
// the sparsest of the audience's conditions costs, and is short, even empty, where it would cost too much. Where
// increment is not 0 it is added to the stored badges, as AddBadges does it, and the recipients have the sums; else
// their badges are 0.
func (s *Store) AudiencePage(
	ctx context.Context, tx *sqlx.Tx, app string, a push.Audience, after push.Token, limit int, increment uint32,
) (page []push.Recipient, routes []push.Route, next push.Token, err error) {
	begin := time.Now()
	sel := s.selection(app, a)
	locked := increment > 0 && len(sel.lists) == 0 && sel.tags == nil
	if locked { // what is read is what is changed: it need not be read again for that
		sel.lock, sel.badges = s.forUpdate(), true
		sel.columns += ", badge"
	}
	page, routes, next, err = s.audiencePage(ctx, tx, &sel, after, limit)
	s.metrics.time("audience", begin)
	if err != nil || increment == 0 {
		return page, routes, next, err
	}
	if locked {
		return page, routes, next, s.addToRead(ctx, tx, app, page, increment, sel.passedOver == 0)
	}
	return page, routes, next, s.AddBadges(ctx, tx, app, page, increment)
}

// selection is what finds the audience.
func (s *Store) selection(app string, a push.Audience) selection {
	sel := selection{
		app: app, columns: "environment, NULLIF(kind, '')", environment: a.Environment, routes: a.Routes,
		platforms: a.Platforms, kind: a.Kind, kindOf: a.KindOf, scan: maxScan,
	}
	if a.KindOf != "" { // what is not needed costs a tenth of the page
		sel.columns += ", kind_of"
	}
	if len(sel.platforms) == 0 {
		sel.platforms = defaultPlatform
	}
	switch {
	case a.Tags != nil:
		for _, tag := range a.Tags.All {
			sel.lists = append(sel.lists, tokenList{kindTag, []string{tag}})
		}
		if len(a.Tags.Any) > 0 {
			sel.lists = append(sel.lists, tokenList{kindTag, a.Tags.Any})
		}
		sel.addEnvironment()
		if len(sel.lists) != 1 || len(a.Tags.None) > 0 { // else the one list is the condition
			sel.columns += ", tags"
			sel.tags = a.Tags
		}
	case a.All:
		sel.addEnvironment()
	default:
		sel.lists = []tokenList{{kindUser, a.Users}}
	}
	return sel
}

var defaultPlatform = []string{push.DefaultPlatform}

// nobody reports whether the audience is of no users.
func (sel *selection) nobody() bool { return len(sel.lists) == 1 && len(sel.lists[0].values) == 0 }

// dest is where to scan the token and an audience's columns into.
func (sel *selection) dest(r *row) []any {
	dest := []any{&r.token, &r.environment, &r.kind}
	if sel.kindOf != "" {
		dest = append(dest, &r.kindOf)
	}
	if sel.tags != nil {
		dest = append(dest, &r.tags)
	}
	if sel.badges {
		dest = append(dest, &r.badge)
	}
	return dest
}

// pageTokens is the memory of a page's tokens while they are read. It is used again.
type pageTokens struct {
	bytes []byte
	ends  []int
}

var pageTokensPool = sync.Pool{New: func() any { return new(pageTokens) }}

// maxPage bounds what is made ready for a page in advance.
const maxPage = 4096

func (s *Store) audiencePage(
	ctx context.Context, q sqlx.QueryerContext, sel *selection, after push.Token, limit int,
) (page []push.Recipient, routes []push.Route, next push.Token, err error) {
	if sel.nobody() {
		return nil, nil, "", nil
	}
	var r row
	page = make([]push.Recipient, 0, min(limit, maxPage))
	routes = make([]push.Route, 0, min(limit, maxPage))
	tokens := pageTokensPool.Get().(*pageTokens) // only this type is put there
	defer pageTokensPool.Put(tokens)
	bytes, ends := tokens.bytes[:0], tokens.ends[:0]
	next, err = sel.each(ctx, q, &r, sel.dest(&r), after, limit, func() error {
		bytes = append(bytes, r.token...)
		ends = append(ends, len(bytes))
		page = append(page, push.Recipient{Badge: uint32(r.badge)})
		routes = append(routes, environment(r.environment))
		return nil
	})
	tokens.bytes, tokens.ends = bytes, ends
	if err != nil {
		return nil, nil, "", fmt.Errorf("read audience: %w", err)
	}
	all, begin := string(bytes), 0 // the tokens of a page share their memory
	for i, end := range ends {
		page[i].Token = push.Token(all[begin:end])
		begin = end
	}
	return page, routes, next, nil
}
