-- +goose Up
CREATE TABLE IF NOT EXISTS invalidations ( -- the inbox of dead tokens, and its history
    app            TEXT NOT NULL,
    token          BLOB NOT NULL,
    invalidated_at TEXT NOT NULL,                      -- since when APNs knows the token as dead
    source         TEXT NOT NULL,                      -- feedback, unregistered, bad_token
    environment    TEXT NOT NULL DEFAULT '', -- where the answers came from; empty for any
    kind           TEXT NOT NULL DEFAULT '', -- of the notifications; with an environment only
    removed        INTEGER NOT NULL DEFAULT 0,
    checked_at     TEXT NULL,                          -- NULL until the scheduled job has decided
    PRIMARY KEY (app, token, invalidated_at, source)
) WITHOUT ROWID, STRICT;
