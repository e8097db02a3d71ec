-- +goose Up
CREATE TABLE IF NOT EXISTS failures (
    notification_id BLOB NOT NULL,
    token           BLOB NOT NULL,
    outcome         INTEGER NOT NULL,                  -- failed, unregistered, expired or cancelled, as push.Outcome numbers them
    reason          TEXT NOT NULL,
    status          INTEGER NOT NULL,                  -- HTTP status, or the binary protocol's; 0 for no answer
    attempts        INTEGER NOT NULL,
    failed_at       TEXT NOT NULL,
    PRIMARY KEY (notification_id, token)
) WITHOUT ROWID, STRICT;
