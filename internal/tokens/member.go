package tokens

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// Member is the token as one of the audience; nil where it is none now.
func (s *Store) Member(
	ctx context.Context, db sqlx.QueryerContext, app string, a push.Audience, t push.Token,
) (*push.AudienceMember, error) {
	defer s.metrics.time("member", time.Now())
	sel := s.selection(app, a)
	prefix := push.Prefix([]byte(t))
	if !sel.wants(prefix) {
		return nil, nil
	}
	sel.tags = a.Tags
	var m *push.AudienceMember
	var r row
	err := newStatement("SELECT token, "+deviceColumns+" FROM device_tokens WHERE").add(" app = ? AND token = ?", app,
		[]byte(t)).
		query(ctx, db, r.deviceDest(), func() error {
			if sel.matches(&r, len(prefix) == 0) && (a.Tags != nil || a.All || slices.Contains(a.Users, string(r.userID))) {
				m = &push.AudienceMember{Route: environment(r.environment), Since: r.createdAt.Time}
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("look up a member of an audience: %w", err)
	}
	return m, nil
}
