package tokens

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

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
		s, bound, more, err := sel.statement(ctx, q, after, read)
		if err != nil {
			return "", err
		}
		rows := 0
		var last []byte
		var skip push.Token
		ends := false // with a platform that is not wanted, and none after it is
		err = s.query(ctx, q, dest, func() error {
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

// statement is what reads up to about read rows after after: of the registry, or of the sparsest list. A bound that is
// not empty is where the next one has to go on. more is false where nothing can be left behind what this one finds.
func (sel *selection) statement(ctx context.Context, q sqlx.QueryerContext, after push.Token, read int) (
	s *statement, bound push.Token, more bool, err error,
) {
	if len(sel.lists) == 0 {
		s = newStatement("")
		s.add("SELECT token, "+sel.columns+" FROM device_tokens WHERE app = ? AND token > ? ORDER BY token LIMIT ?", sel.app,
			[]byte(after), read).add(sel.lock)
		return s, "", true, nil
	}
	list, err := sel.sparsest(ctx, q, after)
	if err != nil {
		return nil, "", false, err
	}
	share, more := 0, true
	if list.merged() {
		share = max(leastList, read/len(list.values))
		if bound, err = sel.bound(ctx, q, list, after, share); err != nil {
			return nil, "", false, err
		}
		more = bound != ""
	}
	s = newStatement("SELECT c.token, " + sel.columns + " FROM (")
	if list.merged() {
		list.appendBounded(s, sel.app, after, bound, share)
	} else {
		list.appendTokens(s, sel.app, after, read)
	}
	s.add(") AS c LEFT JOIN device_tokens d ON d.app = ? AND d.token = c.token ORDER BY c.token", sel.app)
	return s, bound, more, nil
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

// bound is how far those several lists can be read together where share rows are read of each: to the last token of the
// one that ends first; empty where all of them end before. Beyond it a list that was not read to its end may have
// tokens.
func (sel *selection) bound(
	ctx context.Context, q sqlx.QueryerContext, st tokenList, after push.Token, share int,
) (push.Token, error) {
	s := newStatement("SELECT MIN(last) FROM (")
	st.appendEach(s, " UNION ALL ", "COUNT(*) AS n, MAX(token) AS last", sel.app, after, share)
	s.add(") AS u WHERE n = ?", share)
	var last []byte
	err := s.query(ctx, q, []any{&last}, func() error { return nil })
	return push.Token(last), err
}
