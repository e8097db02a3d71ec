-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS apps ( -- those that operators set while the service runs
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    deleting   TINYINT UNSIGNED NOT NULL DEFAULT 0,   -- 1: it takes no request, and goes when all that it has is removed
    entry      MEDIUMBLOB NOT NULL,                   -- JSON with its credentials, encrypted
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    PRIMARY KEY (name)
) ENGINE=InnoDB;
