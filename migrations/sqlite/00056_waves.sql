-- +goose Up
CREATE TABLE IF NOT EXISTS waves ( -- routes over which a replica is told more of dead or bad tokens than can be true
    app     TEXT NOT NULL,
    route   TEXT NOT NULL,
    bad     INTEGER NOT NULL, -- they are called bad; 0: unregistered
    replica TEXT NOT NULL,
    PRIMARY KEY (app, route, bad, replica)
) WITHOUT ROWID, STRICT;
