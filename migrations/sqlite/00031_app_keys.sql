-- +goose Up
CREATE TABLE IF NOT EXISTS app_keys (
    app        TEXT NOT NULL,
    name       TEXT NOT NULL,
    scope      TEXT NOT NULL,
    sha256     BLOB NOT NULL,                         -- all that is kept of the key
    rate       INTEGER NOT NULL,                      -- requests a second, 0 for no limit
    created_at TEXT NOT NULL,
    expires_at TEXT NULL,
    PRIMARY KEY (app, name)
) WITHOUT ROWID, STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS app_keys_sha256 ON app_keys (sha256);
