-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS receipt_counts ( -- of each notification that asks for receipts; its row keeps two from counting at once
    notification_id BINARY(16) NOT NULL,
    app             VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    delivered       BIGINT UNSIGNED NOT NULL,
    opened          BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (notification_id)
) ENGINE=InnoDB;
