-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS recipient_sets ( -- who the recipients of a notification to several explicit tokens are
    app             VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    notification_id BINARY(16) NOT NULL,
    hashes          MEDIUMBLOB NOT NULL, -- of the tokens, 4 bytes each, in order
    PRIMARY KEY (app, notification_id)
) ENGINE=InnoDB;
