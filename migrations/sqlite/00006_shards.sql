-- +goose Up
CREATE TABLE IF NOT EXISTS shards (
    shard   INTEGER NOT NULL,
    owner   TEXT NOT NULL,                             -- replicas.id, empty for nobody
    epoch   INTEGER NOT NULL,                          -- grows with each change of owner: the fence
    backlog INTEGER NOT NULL,                          -- recipients that wait in its batches
    PRIMARY KEY (shard)
) STRICT;
