-- +goose Up
CREATE TABLE IF NOT EXISTS notification_platforms ( -- the counts of each platform, where a notification is for several
    app             TEXT NOT NULL,
    notification_id BLOB NOT NULL,
    platform        TEXT NOT NULL,
    recipients      INTEGER NOT NULL,
    accepted        INTEGER NOT NULL DEFAULT 0,
    failed          INTEGER NOT NULL DEFAULT 0,
    unregistered    INTEGER NOT NULL DEFAULT 0,
    expired         INTEGER NOT NULL DEFAULT 0,
    cancelled       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app, notification_id, platform)
) WITHOUT ROWID, STRICT;
