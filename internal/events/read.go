package events

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/lhspn/lhspn/internal/push"
)

// What one Read takes at the most: rows of a statement, and bytes of data, whatever the limit of events is.
const (
	readRows  = 20
	readBytes = 4 << 20
)

// Latest is a cursor: what comes from now on.
const Latest = "latest"

// Read returns the app's events after the cursor, of the given types (none: of all), up to limit and a few megabytes,
// in the order of the feed, and the cursor after them, which has moved on also where there are none. An empty cursor is
// the beginning of what is kept.
//
// push.ErrNotFound: the cursor is none that this app was given; push.ErrGone: it is older than what is kept.
func (s *Store) Read(
	ctx context.Context, app, cursor string, types []push.EventType, limit int,
) (items []push.Event, next string, err error) {
	head, purged, err := s.head(ctx) // before the rows: what has a place up to here is there
	if err != nil {
		return nil, "", err
	}
	after := purged
	switch cursor {
	case "":
	case Latest:
		return nil, s.cursor(app, head), nil
	default:
		if after, err = s.parse(app, cursor); err != nil {
			return nil, "", err
		}
	}
	items, reached, err := s.read(ctx, app, after, head, types, limit)
	if err != nil || cursor == "" {
		return items, s.cursor(app, reached), err
	}
	// After the rows: had some been removed before they were read, this tells.
	if _, purged, err = s.head(ctx); err != nil {
		return nil, "", err
	}
	if after < purged {
		return nil, "", fmt.Errorf("read events: the cursor is older than what is kept: %w", push.ErrGone)
	}
	return items, s.cursor(app, reached), nil
}

// read takes rows until the limit, and says how far it has come.
func (s *Store) read(
	ctx context.Context, app string, after, head uint64, types []push.EventType, limit int,
) (items []push.Event, reached uint64, err error) {
	size := 0
	for reached = after; ; {
		var rows []struct {
			Seq, N uint64
			Body   []byte
		}
		if err := s.db.Reader().SelectContext(ctx, &rows, `SELECT seq, n, body FROM events
			WHERE app = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?`, app, reached, head, readRows); err != nil {
			return nil, 0, wrap(err, "read events")
		}
		for _, r := range rows {
			lines, err := decode(r.Body)
			if err == nil && len(lines) != int(r.N) {
				err = errors.New("a row without its end")
			}
			if err != nil {
				return nil, 0, fmt.Errorf("read events: %w", err)
			}
			for i, l := range lines {
				seq := r.Seq - r.N + 1 + uint64(i)
				if seq <= after {
					continue
				}
				if len(types) > 0 && !slices.Contains(types, l.Type) {
					reached = seq
					continue
				}
				if len(items) == limit || len(items) > 0 && size+len(l.Data) > readBytes {
					return items, reached, nil
				}
				reached = seq
				size += len(l.Data)
				items = append(items, push.Event{ID: s.cursor(app, seq), Type: l.Type, At: l.At, Data: l.Data})
			}
		}
		if len(rows) < readRows {
			return items, max(reached, head), nil
		}
	}
}

func decode(body []byte) ([]line, error) {
	var r io.Reader
	switch {
	case len(body) > 0 && body[0] == plain:
		r = bytes.NewReader(body[1:])
	case len(body) > 0 && body[0] == deflated:
		r = flate.NewReader(bytes.NewReader(body[1:]))
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

// cursor is the place in its written form, signed: one that is made up, or another app's, is known for it.
func (s *Store) cursor(app string, seq uint64) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+macLen), seq)
	return base64.RawURLEncoding.EncodeToString(append(b, s.mac(app, b)...))
}

func (s *Store) mac(app string, seq []byte) []byte {
	s.mu.Lock()
	secret := s.secret
	s.mu.Unlock()
	h := hmac.New(sha256.New, secret)
	h.Write(seq)
	h.Write([]byte(app))
	return h.Sum(nil)[:macLen]
}

func (s *Store) parse(app, cursor string) (uint64, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) != 8+macLen || !hmac.Equal(b[8:], s.mac(app, b[:8])) {
		return 0, fmt.Errorf("read events: %w: there is no such cursor", push.ErrNotFound)
	}
	return binary.BigEndian.Uint64(b), nil
}
