-- +goose Up
CREATE TABLE IF NOT EXISTS device_tokens (
    app          TEXT NOT NULL,
    token        BLOB NOT NULL,                        -- raw bytes; lower(hex(token)) shows it as the API does
    environment  TEXT NOT NULL,
    kind         TEXT NOT NULL DEFAULT '',             -- what it is for; empty for alerts
    kind_of      BLOB NULL,                            -- of which activity, or type of activities, where the kind has such
    badge        INTEGER NOT NULL DEFAULT 0,
    last_updated TEXT NOT NULL,                        -- the last registration
    created_at   TEXT NOT NULL,
    user_id      BLOB NULL,
    device_id    BLOB NULL,
    tags         BLOB NULL,                            -- JSON array of strings
    app_version  BLOB NULL,
    os_version   BLOB NULL,
    device_model BLOB NULL,
    locale       BLOB NULL,
    time_zone    BLOB NULL,
    address      BLOB NULL,                            -- what reaches the device beside its token, in its platform's own form
    unproven_since TEXT,                               -- since when it has been registered without being accepted by its service; NULL: it was accepted, or that was not kept
    PRIMARY KEY (app, token)
) WITHOUT ROWID, STRICT;
