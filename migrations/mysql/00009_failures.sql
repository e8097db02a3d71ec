-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS failures (
    notification_id BINARY(16) NOT NULL,
    token           VARBINARY(1024) NOT NULL,
    outcome         TINYINT UNSIGNED NOT NULL,         -- failed, unregistered, expired or cancelled, as push.Outcome numbers them
    reason          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    status          SMALLINT UNSIGNED NOT NULL,        -- HTTP status, or the binary protocol's; 0 for no answer
    attempts        TINYINT UNSIGNED NOT NULL,
    failed_at       DATETIME(6) NOT NULL,
    PRIMARY KEY (notification_id, token)
) ENGINE=InnoDB;
