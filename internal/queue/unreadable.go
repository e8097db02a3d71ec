package queue

import (
	"sync"

	"github.com/google/uuid"
)

// Unreadable is the kind of a batch of which little but the key is known: a later version of the program wrote its row,
// and was taken back, or the row is damaged. It is returned for the sake of whoever reads on behind it, and nothing is
// to be done with it: its row stays for a version that can read it.
const Unreadable Kind = 0xff // no row has it

// unreadable are the rows that were met and could not be read. They are met again and again.
type unreadable struct {
	mu   sync.Mutex // guards all below
	rows map[unreadableRow]struct{}
}

type unreadableRow struct {
	table string
	part
}

const (
	// mostUnreadable bounds what is remembered of rows that cannot be read; further ones are not counted.
	mostUnreadable = 10_000
	// loggedUnreadable is how many are in the log one by one.
	loggedUnreadable = 100
)

// cannotRead tells, once, of a row that cannot be read. It costs what it says, and nothing that is read beside it.
func (q *Queue) cannotRead(table, app string, notification uuid.UUID, seq uint32, why error) {
	u := &q.unreadable
	u.mu.Lock()
	defer u.mu.Unlock()
	row := unreadableRow{table, part{notification, seq}}
	if _, known := u.rows[row]; known || len(u.rows) == mostUnreadable {
		return
	}
	if u.rows == nil {
		u.rows = map[unreadableRow]struct{}{}
	}
	u.rows[row] = struct{}{}
	q.metrics.unreadable.Inc()
	switch n := len(u.rows); {
	case n <= loggedUnreadable:
		q.log.Error("a row cannot be read, and is passed over: what it has is not sent until a version runs that can",
			"table", table, "app", app, "notification", notification, "seq", seq, "error", why)
	case n == loggedUnreadable+1:
		q.log.Error("many rows cannot be read; further ones are counted only")
	}
}
