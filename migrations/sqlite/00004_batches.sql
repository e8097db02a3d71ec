-- +goose Up
CREATE TABLE IF NOT EXISTS batches (
    shard           INTEGER NOT NULL,
    lane            INTEGER NOT NULL,                  -- 0 overtakes 1
    due_at          INTEGER NOT NULL,                  -- not before; Unix microseconds
    notification_id BLOB NOT NULL,
    seq             INTEGER NOT NULL,                  -- within the notification
    app             TEXT NOT NULL,
    environment     TEXT NOT NULL, -- the route; empty for an audience of any
    kind            INTEGER NOT NULL,                  -- 0 ready to send, 1 badges to be counted first, 2 an audience to be expanded, 3 the ids of notifications to one device each; and 4 where counts are kept by platform
    recipients      INTEGER NOT NULL,
    body            BLOB NOT NULL,                     -- the recipients, the cursor of the audience, or the ids
    PRIMARY KEY (shard, lane, due_at, notification_id, seq)
) WITHOUT ROWID, STRICT;
