-- +goose Up
CREATE TABLE IF NOT EXISTS events ( -- results for app backends to read: a row has those that one transaction wrote of an app
    shard INTEGER NOT NULL,                            -- the shard whose lease it was written under; 64 where under none
    epoch INTEGER NOT NULL,                            -- the lease's; the process's own number where there is none
    id    INTEGER NOT NULL,                            -- grows within shard and epoch
    seq   INTEGER NOT NULL,                            -- of the last event in the feed of all apps; 0 until it has its place there
    n     INTEGER NOT NULL,                            -- how many events there are in body
    app   TEXT NOT NULL,
    at    TEXT NOT NULL,
    body  BLOB NOT NULL,                               -- a line of JSON for each event, compressed; or the notifications that finished, with what an event says of them or as ids
    PRIMARY KEY (shard, epoch, id)
) WITHOUT ROWID, STRICT;
