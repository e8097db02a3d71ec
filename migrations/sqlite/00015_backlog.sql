-- +goose Up
CREATE TABLE IF NOT EXISTS backlog ( -- what acceptance adds; settling subtracts in shards.backlog, so that neither waits for the other
    slot       INTEGER NOT NULL,                       -- one a committer, more or less
    recipients INTEGER NOT NULL,
    PRIMARY KEY (slot)
) STRICT;
