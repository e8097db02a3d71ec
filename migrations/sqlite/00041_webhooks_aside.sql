-- +goose Up
CREATE TABLE IF NOT EXISTS webhooks_aside ( -- events that a webhook did not take while it took others, tried by themselves
    app      TEXT NOT NULL,
    endpoint BLOB NOT NULL,                           -- the SHA-256 of its URL
    n        INTEGER NOT NULL,                        -- in the order of the feed
    event    TEXT NOT NULL,
    place    TEXT NOT NULL,                           -- the cursor before it
    subject  BLOB NOT NULL,                           -- of what it is: those of one subject wait for each other
    at       TEXT NOT NULL,                           -- when it became true
    failures INTEGER NOT NULL,
    retry_at TEXT,
    PRIMARY KEY (app, endpoint, n)
) WITHOUT ROWID, STRICT;
