package queue

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// storedAudience is an audience as its notification's row has it.
type storedAudience struct {
	push.Audience
	RoutePlatforms map[push.Route]string `json:"route_platforms,omitempty"`
}

// audienceOf is the submission's audience as it is kept, and the routes that it is expanded for: those of the platforms
// that the notification is for.
func audienceOf(s *push.Submission) (a storedAudience, routes []push.Route, err error) {
	a = storedAudience{*s.Audience, s.RoutePlatforms}
	wanted := a.Platforms
	if len(wanted) == 0 {
		wanted = []string{push.DefaultPlatform}
	}
	wanted = slices.DeleteFunc(slices.Clone(wanted), func(name string) bool { return s.Notification.For(name) == nil })
	for _, route := range s.Routes {
		if slices.Contains(wanted, s.PlatformOf(route)) {
			routes = append(routes, route)
		}
	}
	if len(a.Platforms) > 0 {
		a.Platforms = wanted
	}
	if len(routes) == 0 {
		return a, nil, errors.New("an audience of platforms to which the notification has no route")
	}
	if len(s.RoutePlatforms) > 0 && len(routes) > 1 {
		a.Environment, a.Routes = "", routes
	}
	return a, routes, nil
}

// of is the part of the audience that an Audience batch of the route has; all of it where the route is empty.
func (a *storedAudience) of(route push.Route) push.Audience {
	part := a.Audience
	if route == "" {
		return part
	}
	of := push.Submission{RoutePlatforms: a.RoutePlatforms}
	part.Environment, part.Routes, part.Platforms = route, nil, []string{of.PlatformOf(route)}
	return part
}

// A notification for several platforms has a row for each of them in notification_platforms, from its acceptance on:
// its counts of recipients and outcomes, which together are those in the notification's own row.

// platformCounts are what is added to one such row.
type platformCounts struct {
	recipients int64
	counts     counts
}

type platformKey struct {
	app          string
	notification uuid.UUID
	platform     string
}

// add is what is added to the row of the batch's recipients.
func add(changes map[platformKey]*platformCounts, b *Batch) *platformCounts {
	k := platformKey{b.App, b.Notification, b.platform()}
	if changes[k] == nil {
		changes[k] = &platformCounts{}
	}
	return changes[k]
}

// platform is that of the batch's recipients, which all go one way.
func (b *Batch) platform() string { return b.Recipients[0].Token.PlatformName() }

func newPlatformInsert() *database.Insert {
	return database.NewInsert("notification_platforms", "app, notification_id, platform, recipients", "")
}

// addPlatforms adds the rows of an accepted notification.
func (row *acceptedRow) addPlatforms(ctx context.Context, tx *sqlx.Tx, in *database.Insert) error {
	if len(row.Others) == 0 {
		return nil
	}
	recipients := map[string]int{}
	for _, b := range row.batches {
		if len(b.Recipients) > 0 {
			recipients[b.platform()] += len(b.Recipients)
		}
	}
	for _, n := range append([]*push.Notification{row.Notification}, row.Others...) {
		name := n.PlatformName()
		if err := in.Add(ctx, tx, row.App, row.ID[:], name, recipients[name]); err != nil {
			return wrap(err, "insert platforms")
		}
	}
	return nil
}

// addToPlatforms adds to the rows.
func (q *Queue) addToPlatforms(ctx context.Context, tx *sqlx.Tx, changes map[platformKey]*platformCounts) error {
	if len(changes) == 0 {
		return nil
	}
	columns := append([]string{"recipients"}, countColumns[:]...)
	const key = "app, notification_id, platform"
	in := database.NewInsert("notification_platforms", key+", "+strings.Join(columns, ", "),
		q.db.Dialect.UpsertAdd(key, columns...))
	keys := make([]platformKey, 0, len(changes))
	for k := range changes {
		keys = append(keys, k)
	}
	// In the order of the rows: transactions side by side do not deadlock.
	slices.SortFunc(keys, func(a, b platformKey) int {
		return cmp.Or(cmp.Compare(a.app, b.app), slices.Compare(a.notification[:], b.notification[:]),
			cmp.Compare(a.platform, b.platform))
	})
	for _, k := range keys {
		c := changes[k]
		values := []any{k.app, k.notification[:], k.platform, c.recipients}
		for _, n := range c.counts {
			values = append(values, n)
		}
		if err := in.Add(ctx, tx, values...); err != nil {
			return wrap(err, "update the platforms' counts")
		}
	}
	return wrap(in.Flush(ctx, tx), "update the platforms' counts")
}

// readPlatforms gives those of the statuses that are of several platforms their counts by platform. What is added up of
// these is what the status shows: read a moment later, they may be ahead of the notification's own row.
func readPlatforms(ctx context.Context, from sqlx.QueryerContext, app string, statuses []*push.Status) error {
	byID := map[uuid.UUID]*push.Status{}
	ids := make([]uuid.UUID, 0, len(statuses))
	for _, s := range statuses {
		byID[s.ID] = s
		ids = append(ids, s.ID)
		s.Recipients, s.Counts, s.ByPlatform = 0, push.Counts{}, map[string]push.Counts{}
	}
	for chunk := range slices.Chunk(ids, maxKeys) {
		var rows []struct {
			ID                                                             []byte `db:"notification_id"`
			Platform                                                       string
			Recipients, Accepted, Failed, Unregistered, Expired, Cancelled int64
		}
		err := sqlx.SelectContext(ctx, from, &rows, `SELECT notification_id, platform, recipients, accepted, failed, unregistered, expired, cancelled
			FROM notification_platforms WHERE app = ? AND notification_id IN `+list(len(chunk)), append([]any{app}, idArgs(chunk)...)...)
		if err != nil {
			return err
		}
		for _, r := range rows {
			c := push.Counts{Accepted: r.Accepted, Failed: r.Failed, Unregistered: r.Unregistered, Expired: r.Expired,
				Cancelled: r.Cancelled}
			c.Pending = r.Recipients - c.Accepted - c.Failed - c.Unregistered - c.Expired - c.Cancelled
			s := byID[uuid.UUID(r.ID)]
			s.ByPlatform[r.Platform] = c
			s.Recipients += r.Recipients
			s.Counts = sum(s.Counts, c)
		}
	}
	return nil
}

func sum(a, b push.Counts) push.Counts {
	return push.Counts{
		Pending: a.Pending + b.Pending, Accepted: a.Accepted + b.Accepted, Failed: a.Failed + b.Failed,
		Unregistered: a.Unregistered + b.Unregistered, Expired: a.Expired + b.Expired, Cancelled: a.Cancelled + b.Cancelled,
	}
}
