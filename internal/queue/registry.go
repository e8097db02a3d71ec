package queue

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/push"
)

// Registry is what the queue needs of the token store inside its own transactions.
type Registry interface {
	// AudiencePage returns up to limit recipients whose tokens come after after, in the tokens' order, the route of
	// each, and the token after which the next page goes on, empty after the last one. A page may be short, even empty,
	// without being the last. An increment that is not 0 is added to the stored badges, and the recipients have the
	// sums; else their badges are 0.
	AudiencePage(
		ctx context.Context, tx *sqlx.Tx, app string, a push.Audience, after push.Token, limit int, increment uint32,
	) (page []push.Recipient, routes []push.Route, next push.Token, err error)
	// Member is the token as one of the audience; nil where it is none now.
	Member(
		ctx context.Context, db sqlx.QueryerContext, app string, a push.Audience, t push.Token,
	) (*push.AudienceMember, error)
	// Elsewhere says which of the tokens are registered for another route than the given one, and for which.
	Elsewhere(ctx context.Context, db sqlx.QueryerContext, app string, tokens []push.Token,
		route push.Route) (map[push.Token]push.Route, error)
	// LastUpdated says when each of the tokens that are registered was last.
	LastUpdated(ctx context.Context, db sqlx.QueryerContext, app string, tokens []push.Token) (
		map[push.Token]time.Time, error)
	// AddBadges adds n to the stored badge of each registered recipient, saturating, and writes the sums (n itself for
	// a token that is not registered) into recipients. recipients are in the tokens' order.
	AddBadges(ctx context.Context, tx *sqlx.Tx, app string, recipients []push.Recipient, n uint32) error
	// Accepted notes which tokens were accepted, where that is kept. It may sort them.
	Accepted(ctx context.Context, tx *sqlx.Tx, app string, tokens []push.Token) error
	// RemoveUnchanged removes each token that was last registered at or before its invalidation's time, and reports
	// which.
	RemoveUnchanged(ctx context.Context, tx *sqlx.Tx, invalidations []push.Invalidation) (removed []bool, err error)
}
