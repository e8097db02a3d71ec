-- +goose Up
CREATE TABLE IF NOT EXISTS holds ( -- routes that are held: an event has told so
    app     TEXT NOT NULL,
    route   TEXT NOT NULL,
    reason  TEXT NOT NULL,
    remedy  TEXT NOT NULL,
    holders TEXT NOT NULL, -- the replicas that hold it, separated by commas
    PRIMARY KEY (app, route)
) WITHOUT ROWID, STRICT;
