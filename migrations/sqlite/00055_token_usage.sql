-- +goose Up
CREATE TABLE IF NOT EXISTS token_usage ( -- how many device tokens each app has: the sum over its rows counts; it lies where they do
    app    TEXT NOT NULL,
    slot   INTEGER NOT NULL, -- as in app_usage
    tokens INTEGER NOT NULL,
    PRIMARY KEY (app, slot)
) STRICT;
