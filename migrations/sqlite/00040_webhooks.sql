-- +goose Up
CREATE TABLE IF NOT EXISTS webhooks ( -- how far the events of an app are delivered to each of its webhooks
    app        TEXT NOT NULL,
    endpoint   BLOB NOT NULL,                         -- the SHA-256 of its URL
    place      TEXT NOT NULL,                         -- the cursor after what is delivered
    head       TEXT NOT NULL,                         -- the event that failed last
    failures   INTEGER NOT NULL,                      -- how often, one time after the other
    retry_at   TEXT,                                  -- when it is tried again
    disabled   INTEGER NOT NULL,                      -- 1: the receiver has answered that it is gone
    settings   BLOB NOT NULL,                         -- the SHA-256 of those that the last four columns are of
    version    INTEGER NOT NULL,                      -- grows with each change of the row: only who knows it changes it
    touched_at TEXT NOT NULL,                         -- rows that nobody touches go
    PRIMARY KEY (app, endpoint)
) WITHOUT ROWID, STRICT;
