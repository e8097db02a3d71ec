-- +goose Up
CREATE TABLE IF NOT EXISTS receipt_counts ( -- of each notification that asks for receipts; its row keeps two from counting at once
    notification_id BLOB NOT NULL,
    app             TEXT NOT NULL,
    delivered       INTEGER NOT NULL,
    opened          INTEGER NOT NULL,
    PRIMARY KEY (notification_id)
) WITHOUT ROWID, STRICT;
