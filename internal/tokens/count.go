package tokens

import (
	"context"
	"fmt"
	"time"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// countTime bounds how long an audience is counted.
const countTime = 2 * time.Second

// CountAudience counts the audience's members by the names of their platforms. It ends after two seconds: exact is
// false then, and there are at least so many.
func (s *Store) CountAudience(
	ctx context.Context, app string, a push.Audience,
) (byPlatform map[string]int, exact bool, err error) {
	byPlatform = map[string]int{}
	sel, end := s.selection(app, a), s.now().Add(countTime)
	if sel.nobody() {
		return byPlatform, true, nil
	}
	var r row
	counted := map[string]int{} // by prefix
	for after := push.Token(""); ; {
		after, err = sel.each(ctx, s.db.Reader(), &r, sel.dest(&r), after, maxRead, func() error {
			counted[string(push.Prefix(r.token))]++
			return nil
		})
		if err != nil {
			return nil, false, fmt.Errorf("count audience: %w", database.MarkUnavailable(err))
		}
		if exact = after == ""; exact || s.now().After(end) {
			break
		}
	}
	for prefix, n := range counted {
		platform := push.DefaultPlatform
		if prefix != "" {
			platform = prefix[:len(prefix)-1]
		}
		byPlatform[platform] = n
	}
	return byPlatform, exact, nil
}
