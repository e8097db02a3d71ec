package push

import "log/slog"

// The levels of lines that somebody may have to answer for: of acts, and of keys that are refused. They are above all
// others, so that no log.level leaves them out, and are shown as INFO and WARN.
const (
	LevelAudit   = slog.LevelError + 8 + iota
	LevelRefused // of a key
)
