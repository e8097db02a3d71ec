-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS cancellations ( -- cancelled notifications of which something may still wait; almost always empty
    app             VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    notification_id BINARY(16) NOT NULL,
    PRIMARY KEY (notification_id)
) ENGINE=InnoDB;
