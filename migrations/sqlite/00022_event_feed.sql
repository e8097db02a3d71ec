-- +goose Up
CREATE TABLE IF NOT EXISTS event_feed ( -- one row: whoever gives events their places in the feed holds it
    id     INTEGER NOT NULL,
    seq    INTEGER NOT NULL,                           -- the last place given
    purged INTEGER NOT NULL,                           -- the last place that was removed
    secret BLOB NOT NULL,                              -- what cursors are signed with
    PRIMARY KEY (id)
) STRICT;
