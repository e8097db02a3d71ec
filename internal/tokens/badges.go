package tokens

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// AddBadges adds n to the stored badge of each registered recipient, saturating at 4294967295, and writes the sums into
// recipients; a token that is not registered gets n. recipients are in the tokens' order, each token once.
//
// The rows are read under lock and then changed, so that of two increments at once none is lost.
func (s *Store) AddBadges(ctx context.Context, tx *sqlx.Tx, app string, recipients []push.Recipient, n uint32) error {
	if len(recipients) == 0 {
		return nil
	}
	defer s.metrics.time("badges", time.Now())
	b := increment{store: s, tx: tx, app: app, recipients: recipients, n: n}
	done, err := b.byRange(ctx)
	if err == nil && !done {
		err = b.byTokens(ctx)
	}
	return wrapBadges(err)
}

// addToRead is AddBadges for recipients that the transaction has read with their badges, under lock. dense says that
// they are all the registered tokens from the first to the last.
func (s *Store) addToRead(
	ctx context.Context, tx *sqlx.Tx, app string, recipients []push.Recipient, n uint32, dense bool,
) error {
	if len(recipients) == 0 {
		return nil
	}
	defer s.metrics.time("badges", time.Now())
	for i := range recipients {
		recipients[i].Badge = sum(int64(recipients[i].Badge), n)
	}
	b := increment{store: s, tx: tx, app: app, recipients: recipients, n: n}
	if dense {
		return wrapBadges(b.updateRange(ctx, len(recipients)))
	}
	for run := range slices.Chunk(recipients, maxRows) {
		b.recipients = run
		if err := b.updateTokens(ctx, len(run)); err != nil {
			return wrapBadges(err)
		}
	}
	return nil
}

func wrapBadges(err error) error {
	if err != nil {
		return fmt.Errorf("add to badges: %w", err)
	}
	return nil
}

// sum is the badge after n more, saturating.
func sum(badge int64, n uint32) uint32 { return uint32(min(badge+int64(n), math.MaxUint32)) }

type increment struct {
	store      *Store
	tx         *sqlx.Tx
	app        string
	recipients []push.Recipient
	n          uint32
}

// minRange is the number of recipients from which on one range is cheaper than a list.
const minRange = 16

// byRange does it with one range of the clustered key, which costs half of what a list of tokens costs. That is right
// where the recipients are all the registered tokens of the range, as a page of a broadcast to all is; else it does
// nothing and says so.
func (b *increment) byRange(ctx context.Context) (done bool, err error) {
	count := len(b.recipients)
	if count < minRange {
		return false, nil
	}
	first, last := b.ends()
	// Two neighbours tell most other batches apart before anything is locked.
	var token []byte
	next := false
	err = newStatement("SELECT token FROM device_tokens").add(" WHERE app = ? AND token > ? ORDER BY token LIMIT 1",
		b.app, first).
		query(ctx, b.tx, []any{&token}, func() error {
			next = push.Token(token) == b.recipients[1].Token
			return nil
		})
	if err != nil || !next {
		return false, err
	}
	rows, found, err := b.read(ctx, newStatement("SELECT token, badge FROM device_tokens").
		add(" WHERE app = ? AND token BETWEEN ? AND ? ORDER BY token LIMIT ?", b.app, first, last, count+1))
	if err != nil || rows > found {
		return false, err
	}
	err = b.updateRange(ctx, found)
	return err == nil, err
}

func (b *increment) ends() (first, last []byte) {
	return []byte(b.recipients[0].Token), []byte(b.recipients[len(b.recipients)-1].Token)
}

// updateRange changes all from the first to the last, which were count rows when they were read.
func (b *increment) updateRange(ctx context.Context, count int) error {
	first, last := b.ends()
	changed, err := b.update().add(" AND token BETWEEN ? AND ?", first, last).exec(ctx, b.tx)
	if err == nil && changed != count { // a token was registered since
		err = database.ErrLostRace
	}
	return err
}

func (b *increment) byTokens(ctx context.Context) error {
	for run := range slices.Chunk(b.recipients, maxRows) {
		part := *b
		part.recipients = run
		_, found, err := part.read(ctx,
			newStatement("SELECT token, badge FROM device_tokens WHERE app = ? AND token IN").add("", b.app).
				list(len(run), part.token).add(" ORDER BY token"))
		if err == nil && found > 0 {
			err = part.updateTokens(ctx, found)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// token is the i-th recipient's, as an argument.
func (b *increment) token(i int) any { return []byte(b.recipients[i].Token) }

// updateTokens changes those of the recipients that are registered, which were count when they were read.
func (b *increment) updateTokens(ctx context.Context, count int) error {
	changed, err := b.update().add(" AND token IN").list(len(b.recipients), b.token).exec(ctx, b.tx)
	if err == nil && changed != count {
		err = database.ErrLostRace
	}
	return err
}

// read locks the rows of the statement, which are in the tokens' order, and gives the recipients their sums. It counts
// the rows, and those of them that are recipients'.
func (b *increment) read(ctx context.Context, s *statement) (rows, found int, err error) {
	for i := range b.recipients {
		b.recipients[i].Badge = b.n
	}
	var r row
	i := 0
	err = s.add(b.store.forUpdate()).query(ctx, b.tx, []any{&r.token, &r.badge}, func() error {
		rows++
		for i < len(b.recipients) && string(b.recipients[i].Token) < string(r.token) {
			i++
		}
		if i < len(b.recipients) && string(b.recipients[i].Token) == string(r.token) {
			b.recipients[i].Badge = sum(int64(r.badge), b.n)
			found++
			i++
		}
		return nil
	})
	return rows, found, err
}

// update begins the UPDATE.
func (b *increment) update() *statement {
	b.store.metrics.badges.Add(float64(len(b.recipients)))
	return newStatement("UPDATE device_tokens SET badge = CASE WHEN badge > ? THEN ? ELSE badge + ? END WHERE app = ?").
		add("", int64(math.MaxUint32-b.n), int64(math.MaxUint32), int64(b.n), b.app)
}
