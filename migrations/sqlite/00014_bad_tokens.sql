-- +goose Up
CREATE TABLE IF NOT EXISTS bad_tokens ( -- answers that say "wrong token or wrong environment"
    app      TEXT NOT NULL,
    token    BLOB NOT NULL,
    environment TEXT NOT NULL, -- where they came from
    kind     TEXT NOT NULL, -- of the notifications
    answers  INTEGER NOT NULL,
    first_at TEXT NOT NULL,
    last_at  TEXT NOT NULL,
    PRIMARY KEY (app, token, environment, kind)
) WITHOUT ROWID, STRICT;
