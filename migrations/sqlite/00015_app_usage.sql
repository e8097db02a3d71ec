-- +goose Up
CREATE TABLE IF NOT EXISTS app_usage ( -- what each app has stored: the sums over its rows count
    app              TEXT NOT NULL,
    slot             INTEGER NOT NULL,                 -- transactions side by side add to different ones, so that none waits
    waiting          INTEGER NOT NULL,                 -- recipients that are not sent to yet, but those of
    scheduled        INTEGER NOT NULL,                 -- notifications that were accepted for later
    idempotency_keys INTEGER NOT NULL,
    PRIMARY KEY (app, slot)
) STRICT;
