-- +goose Up
CREATE TABLE IF NOT EXISTS cancellations ( -- cancelled notifications that may still have batches; almost always empty
    notification_id BLOB NOT NULL,
    PRIMARY KEY (notification_id)
) WITHOUT ROWID, STRICT;
