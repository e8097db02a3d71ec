-- +goose Up
CREATE TABLE IF NOT EXISTS recipient_sets ( -- who the recipients of a notification to several explicit tokens are
    app             TEXT NOT NULL,
    notification_id BLOB NOT NULL,
    hashes          BLOB NOT NULL, -- of the tokens, 4 bytes each, in order
    PRIMARY KEY (app, notification_id)
) WITHOUT ROWID, STRICT;
