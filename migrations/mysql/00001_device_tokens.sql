-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS device_tokens (
    app          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    token        VARBINARY(1024) NOT NULL,              -- raw bytes, where HEX(token) is its written form, or the written form
    environment  VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    kind         VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', -- what it is for; empty for alerts
    kind_of      VARBINARY(255) NULL,                  -- of which activity, or type of activities, where the kind has such
    badge        INT UNSIGNED NOT NULL DEFAULT 0,
    last_updated DATETIME(6) NOT NULL,                 -- the last registration
    created_at   DATETIME(6) NOT NULL,
    user_id      VARBINARY(255) NULL,
    device_id    VARBINARY(255) NULL,
    tags         BLOB NULL,                            -- JSON array of strings
    app_version  VARBINARY(255) NULL,
    os_version   VARBINARY(255) NULL,
    device_model VARBINARY(255) NULL,
    locale       VARBINARY(255) NULL,
    time_zone    VARBINARY(255) NULL,
    address      VARBINARY(4096) NULL,                 -- what reaches the device beside its token, in its platform's own form
    unproven_since DATETIME(6) NULL,                    -- since when it has been registered without being accepted by its service; NULL: it was accepted, or that was not kept
    PRIMARY KEY (app, token)
) ENGINE=InnoDB;
