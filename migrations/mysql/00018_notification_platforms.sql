-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS notification_platforms ( -- the counts of each platform, where a notification is for several
    app             VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    notification_id BINARY(16) NOT NULL,
    platform        VARCHAR(12) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    recipients      INT UNSIGNED NOT NULL,
    accepted        INT UNSIGNED NOT NULL DEFAULT 0,
    failed          INT UNSIGNED NOT NULL DEFAULT 0,
    unregistered    INT UNSIGNED NOT NULL DEFAULT 0,
    expired         INT UNSIGNED NOT NULL DEFAULT 0,
    cancelled       INT UNSIGNED NOT NULL DEFAULT 0,
    PRIMARY KEY (app, notification_id, platform)
) ENGINE=InnoDB;
