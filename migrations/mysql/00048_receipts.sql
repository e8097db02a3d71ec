-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS receipts ( -- what devices said of notifications
    notification_id BINARY(16) NOT NULL,
    recipient       BINARY(8) NOT NULL, -- the first bytes of the SHA-256 of the token's written form
    kinds           TINYINT UNSIGNED NOT NULL, -- 1 delivered, 2 opened, 3 both
    PRIMARY KEY (notification_id, recipient)
) ENGINE=InnoDB;
