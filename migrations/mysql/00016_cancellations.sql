-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS cancellations ( -- cancelled notifications that may still have batches; almost always empty
    notification_id BINARY(16) NOT NULL,
    PRIMARY KEY (notification_id)
) ENGINE=InnoDB;
