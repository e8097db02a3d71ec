package events

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
)

// What one Read takes at the most: rows of a statement, bytes of data, whatever the limit of events is, and how long it
// goes on past events that are not wanted, of which there may be millions after an old cursor. Those who read bound
// each Read, and one that was cut off would begin at the same place again.
const (
	readRows  = 20
	readBytes = 4 << 20
	readFor   = 5 * time.Second
)

// Latest is a cursor: what comes from now on.
const Latest = "latest"

// Read returns the app's events after the cursor, of the given types (none: of all), up to limit and a few megabytes,
// in the order of the feed, and the cursor after them, which has moved on also where there are none: only one that has
// not is at the end of the feed. An empty cursor is the beginning of what is kept.
//
// push.ErrNotFound: the cursor is none that this app was given; push.ErrGone: it is older than what is kept.
func (s *Store) Read(
	ctx context.Context, app, cursor string, types []push.EventType, limit int,
) (items []push.Event, next string, err error) {
	if cursor == Latest || !s.hasSecret() {
		head, err := s.head(ctx)
		if err != nil {
			return nil, "", err
		}
		if cursor == Latest {
			return nil, s.signer(app).cursor(head), nil
		}
	}
	p := page{sign: s.signer(app), until: s.shownUntil()}
	if cursor != "" {
		if p.after, err = p.sign.parse(cursor); err != nil {
			return nil, "", err
		}
		if p.after >= p.until { // there is more at the next step
			return nil, cursor, nil
		}
	}
	p.reached = p.after
	if err := s.read(ctx, &p, types, limit); err != nil {
		return nil, "", err
	}
	s.show(p.head, false)
	if cursor != "" && p.expired {
		return nil, "", fmt.Errorf("read events: the cursor is older than what is kept: %w", push.ErrGone)
	}
	return p.items, p.sign.cursor(p.reached), nil
}

// page is what one Read has gathered.
type page struct {
	sign         *signer
	after, until uint64 // the places between which it reads
	head         uint64 // of the feed, as its rows were read
	items        []push.Event
	reached      uint64 // the last place that was looked at
	size         int
	expired      bool // some were passed over that are older than what is kept, whether they are removed or not yet
}

// read takes rows until the limit.
func (s *Store) read(ctx context.Context, p *page, types []push.EventType, limit int) error {
	began := s.now()
	oldest := began.Add(-s.cfg.Retention)
	for {
		rows, err := s.rowsAfter(ctx, p)
		if err != nil {
			return err
		}
		for i := range rows {
			r := &rows[i]
			if r.At.Before(oldest) { // the notifications may be gone that it tells of
				p.reached, p.expired = r.Seq, true
				continue
			}
			full, err := s.takeRow(ctx, p, r, types, limit)
			if err != nil || full {
				return err
			}
		}
		if len(rows) < readRows {
			p.reached = max(p.reached, min(p.head, p.until))
			return nil
		}
		if s.now().Sub(began) > readFor {
			return nil
		}
	}
}

// readRow is a row of events, or with Feed the feed's own: its place, and in N how far it is removed.
type readRow struct {
	Feed   bool
	Seq, N uint64
	At     database.Time
	Body   []byte
}

// rowsAfter reads the next rows, and how far the feed is. One statement does, so that they are as of one moment, on
// whatever server of several: what has a place is there, and what was removed is known to be.
func (s *Store) rowsAfter(ctx context.Context, p *page) ([]readRow, error) {
	first, then := "(", ")"
	if s.db.Dialect == database.SQLite { // which takes no parts in brackets
		first, then = "SELECT * FROM (", ") AS next"
	}
	var rows []readRow
	if err := s.db.Reader().SelectContext(ctx, &rows, first+`SELECT 0 AS feed, seq, n, at, body FROM events
		WHERE app = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?`+then+`
		UNION ALL SELECT 1, seq, purged, NULL, NULL FROM event_feed WHERE id = 1`,
		p.sign.app, p.reached, p.until, readRows); err != nil {
		return nil, wrap(err, "read events")
	}
	i := slices.IndexFunc(rows, func(r readRow) bool { return r.Feed })
	if i < 0 {
		return nil, errors.New("read events: there is no feed")
	}
	p.head = rows[i].Seq
	p.expired = p.expired || rows[i].N > p.reached
	rows = slices.Delete(rows, i, i+1)
	// No database says that it keeps the order of a part.
	slices.SortFunc(rows, func(a, b readRow) int { return cmp.Compare(a.Seq, b.Seq) })
	return rows, nil
}

// takeRow adds the events of a row, and says whether there were more than there is room for.
func (s *Store) takeRow(
	ctx context.Context, p *page, r *readRow, types []push.EventType, limit int,
) (full bool, err error) {
	first := r.Seq - r.N + 1
	from := max(p.after+1, first)
	lines, err := decode(r.Body)
	if err == nil && uint64(len(lines)) != r.N {
		err = errors.New("a row without its end")
	}
	if err == nil {
		return s.take(ctx, p, from, lines[from-first:], types, limit)
	}
	if p.takeUnreadable(from, r.Seq, r.At.Time, limit) {
		return true, nil
	}
	s.cannotRead(p.sign.app, r.Seq, err)
	return false, nil
}

// cannotRead tells of a row of which it is unknown what it says. It costs its own events, and not those behind it.
func (s *Store) cannotRead(app string, seq uint64, why error) {
	s.metrics.unreadable.Inc()
	s.log.Error("events cannot be read, and are passed over: who reads them is told so", "app", app, "seq", seq,
		"error", why)
}

// takeUnreadable adds one event in place of those from first to last, and says whether there was no room for it.
func (p *page) takeUnreadable(first, last uint64, at time.Time, limit int) (full bool) {
	if len(p.items) == limit {
		return true
	}
	data, _ := json.Marshal(Unreadable{last - first + 1, p.sign.cursor(first - 1)}) // a number and a text have a JSON form
	p.size += len(data)
	p.items = append(p.items, push.Event{ID: p.sign.cursor(last), Type: push.EventUnreadable, At: at.UTC(), Data: data})
	p.reached = last
	return false
}

// take adds the lines of a row, the first of which has the place seq, and says whether that was more than there is room
// for.
func (s *Store) take(
	ctx context.Context, p *page, seq uint64, lines []line, types []push.EventType, limit int,
) (full bool, err error) {
	for i := range lines {
		l := &lines[i]
		if l.refers() && wantsFinished(types) {
			if len(p.items) == limit {
				return true, nil
			}
			if err := s.resolve(ctx, p.sign.app, lines[i:min(len(lines), i+limit-len(p.items), i+resolveMost)]); err != nil {
				return false, err
			}
		}
		if l.Type != "" && (len(types) == 0 || slices.Contains(types, l.Type)) {
			if len(p.items) == limit || len(p.items) > 0 && p.size+len(l.Data) > readBytes {
				return true, nil
			}
			p.size += len(l.Data)
			p.items = append(p.items, push.Event{ID: p.sign.cursor(seq), Type: l.Type, At: l.At, Data: l.Data})
		}
		p.reached = seq
		seq++
	}
	return false, nil
}

func (l *line) refers() bool { return l.Type == "" }

func wantsFinished(types []push.EventType) bool {
	return len(types) == 0 || slices.Contains(types, push.EventDone) || slices.Contains(types, push.EventCancelled)
}

// resolveMost is how many notifications are read at once at the most.
const resolveMost = 500

// usualLen is the length of the data of most events of notifications, and somewhat more.
const usualLen = 640

// resolve makes references what they tell. One to a notification that is not there, as of an app that is removed, stays
// what it is, and is passed over.
func (s *Store) resolve(ctx context.Context, app string, lines []line) error {
	var ids []uuid.UUID // of those whose rows are to be read
	for i := range lines {
		if lines[i].single == nil {
			ids = append(ids, lines[i].finished)
		}
	}
	var found map[uuid.UUID]*push.Status
	if len(ids) > 0 {
		var err error
		if found, err = s.cfg.Finished(ctx, app, ids); err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
	data := make([]byte, 0, len(lines)*usualLen) // of all of them
	var said statuses
	for i := range lines {
		l := &lines[i]
		s := found[l.finished]
		if l.single != nil {
			s = said.next(l.single, l.At)
		}
		if s == nil {
			continue
		}
		l.Type = push.EventDone
		if s.State == push.StateCancelled {
			l.Type = push.EventCancelled
		}
		data = appendNotification(data, s)
		l.Data, data = data[:len(data):len(data)], data[len(data):]
	}
	return nil
}

func decode(body []byte) ([]line, error) {
	var r io.Reader
	switch {
	case len(body) > 0 && body[0] == plain:
		r = bytes.NewReader(body[1:])
	case len(body) > 0 && body[0] == deflated:
		r = flate.NewReader(bytes.NewReader(body[1:]))
	case len(body) > 0 && body[0] == finishedOnes:
		return decodeFinished(body[1:])
	default:
		return nil, errors.New("a row in an unknown form")
	}
	var lines []line
	for d := json.NewDecoder(r); ; {
		var l line
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return lines, nil
		} else if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
}

const macLen = 8

// signer signs the places of one app.
type signer struct {
	hash hash.Hash
	app  string
}

func (s *Store) signer(app string) *signer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &signer{hmac.New(sha256.New, s.secret), app}
}

// cursor is the place in its written form, signed: one that is made up, or another app's, is known for it.
func (s *signer) cursor(seq uint64) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+sha256.Size), seq)
	return base64.RawURLEncoding.EncodeToString(s.sign(b))
}

// sign appends the signature of a place.
func (s *signer) sign(seq []byte) []byte {
	s.hash.Reset()
	s.hash.Write(seq)
	io.WriteString(s.hash, s.app) //nolint:errcheck // a hash takes everything
	return s.hash.Sum(seq)[:8+macLen]
}

func (s *signer) parse(cursor string) (uint64, error) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil && len(b) == 8+macLen {
		// As text, for the decoder passes over line breaks.
		if seq := binary.BigEndian.Uint64(b); hmac.Equal([]byte(cursor), []byte(s.cursor(seq))) {
			return seq, nil
		}
	}
	return 0, fmt.Errorf("read events: %w: there is no such cursor", push.ErrNotFound)
}
