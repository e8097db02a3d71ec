-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS app_keys (
    app        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    scope      VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    sha256     BINARY(32) NOT NULL,                   -- all that is kept of the key
    rate       INT UNSIGNED NOT NULL,                 -- requests a second, 0 for no limit
    created_at DATETIME(6) NOT NULL,
    expires_at DATETIME(6) NULL,
    PRIMARY KEY (app, name),
    UNIQUE KEY app_keys_sha256 (sha256)
) ENGINE=InnoDB;
