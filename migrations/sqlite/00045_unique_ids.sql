-- +goose Up
CREATE TABLE IF NOT EXISTS unique_ids ( -- what a service calls a delivery, where it says so: the sandbox of APNs does
    notification_id BLOB NOT NULL,
    token           BLOB NOT NULL,
    unique_id       TEXT NOT NULL,
    PRIMARY KEY (notification_id, token)
) WITHOUT ROWID, STRICT;
