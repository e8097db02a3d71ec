-- +goose Up
CREATE TABLE IF NOT EXISTS token_usage ( -- device tokens of each app: the sums over its rows, and over app_usage's, count
    app    TEXT NOT NULL,
    slot   INTEGER NOT NULL, -- as in app_usage
    tokens INTEGER NOT NULL,
    PRIMARY KEY (app, slot)
) STRICT;
