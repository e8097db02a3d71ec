-- +goose Up
CREATE TABLE IF NOT EXISTS shards (
    shard   INTEGER NOT NULL,
    owner   TEXT NOT NULL,                             -- replicas.id, empty for nobody
    epoch   INTEGER NOT NULL,                          -- grows with each change of owner: the fence
    writes  INTEGER NOT NULL,                          -- grows with each transaction under the lease
    PRIMARY KEY (shard)
) STRICT;
