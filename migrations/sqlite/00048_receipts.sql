-- +goose Up
CREATE TABLE IF NOT EXISTS receipts ( -- what devices said of notifications
    notification_id BLOB NOT NULL,
    recipient       BLOB NOT NULL, -- the first bytes of the SHA-256 of the token's written form
    kinds           INTEGER NOT NULL, -- 1 delivered, 2 opened, 3 both
    PRIMARY KEY (notification_id, recipient)
) WITHOUT ROWID, STRICT;
