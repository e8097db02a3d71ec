-- +goose Up
CREATE TABLE IF NOT EXISTS app_changes ( -- one row, which replicas poll
    id      INTEGER NOT NULL,
    version INTEGER NOT NULL,                         -- grows with each change of apps and app_keys
    PRIMARY KEY (id)
) STRICT;
