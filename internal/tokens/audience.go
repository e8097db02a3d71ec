package tokens

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

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
