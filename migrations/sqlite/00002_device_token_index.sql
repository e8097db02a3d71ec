-- +goose Up
CREATE TABLE IF NOT EXISTS device_token_index ( -- by what an audience or a device finds its tokens
    app   TEXT NOT NULL,
    kind  TEXT NOT NULL, -- u user, t tag, d device, e environment (sandbox only)
    value BLOB NOT NULL,
    token BLOB NOT NULL,
    PRIMARY KEY (app, kind, value, token)
) WITHOUT ROWID, STRICT;
