package database

import (
	"context"
	"time"
)

// ClockSkew is how far the server's clock is ahead of this machine's, as exactly as half of the question's round trip;
// 0 on SQLite, which has no clock of its own.
func (db *DB) ClockSkew(ctx context.Context) (time.Duration, error) {
	if db.Dialect == SQLite {
		return 0, nil
	}
	var micros int64
	asked := time.Now()
	// Both in UTC, whatever the session's zone is.
	err := db.Reader().QueryRowContext(ctx,
		"SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))").Scan(&micros)
	if err != nil {
		return 0, MarkUnavailable(err)
	}
	took := time.Since(asked)
	return time.UnixMicro(micros).Sub(asked.Add(took / 2)), nil
}
