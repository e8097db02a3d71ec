-- +goose Up
CREATE TABLE IF NOT EXISTS cancellations ( -- cancelled notifications of which something may still wait; almost always empty
    app             TEXT NOT NULL,
    notification_id BLOB NOT NULL,
    PRIMARY KEY (notification_id)
) WITHOUT ROWID, STRICT;
