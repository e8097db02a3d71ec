-- +goose Up
CREATE TABLE IF NOT EXISTS proving ( -- its one row is there while it is kept which device tokens were accepted
    id    INTEGER NOT NULL,
    since TEXT NOT NULL,
    PRIMARY KEY (id)
) STRICT;
