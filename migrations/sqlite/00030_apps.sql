-- +goose Up
CREATE TABLE IF NOT EXISTS apps ( -- those that operators set while the service runs
    name       TEXT NOT NULL,
    deleting   INTEGER NOT NULL DEFAULT 0,            -- 1: it takes no request, and goes when all that it has is removed
    entry      BLOB NOT NULL,                         -- JSON with its credentials, encrypted
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (name)
) WITHOUT ROWID, STRICT;
