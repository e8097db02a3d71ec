-- +goose Up
CREATE TABLE IF NOT EXISTS replicas (
    id   TEXT NOT NULL,
    beat INTEGER NOT NULL,                             -- grows while the replica lives; others watch it with their own clocks
    PRIMARY KEY (id)
) STRICT;
