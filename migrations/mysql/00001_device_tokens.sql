-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS device_tokens (
    app          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    token        VARBINARY(1024) NOT NULL,              -- raw bytes, where HEX(token) is its written form, or the written form
    environment  VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    kind         VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', -- what it is for; empty for alerts
    kind_of      TINYBLOB NULL,                  -- of which activity, or type of activities, where the kind has such
    badge        INT UNSIGNED NOT NULL DEFAULT 0,
    last_updated DATETIME(6) NOT NULL,                 -- the last registration
    created_at   DATETIME(6) NOT NULL,
    user_id      TINYBLOB NULL,
    device_id    TINYBLOB NULL,
    tags         BLOB NULL,                            -- JSON array of strings
    app_version  TINYBLOB NULL,
    os_version   TINYBLOB NULL,
    device_model TINYBLOB NULL,
    locale       TINYBLOB NULL,
    time_zone    TINYBLOB NULL,
    address      BLOB NULL,                 -- what reaches the device beside its token, in its platform's own form
    unproven_since DATETIME(6) NULL,                    -- since when it has been registered without being accepted by its service; NULL: it was accepted, or that was not kept
    PRIMARY KEY (app, token)
) ENGINE=InnoDB;
