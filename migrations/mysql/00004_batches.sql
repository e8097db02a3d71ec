-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS batches (
    shard           TINYINT UNSIGNED NOT NULL,
    lane            TINYINT UNSIGNED NOT NULL,         -- 0 overtakes 1
    due_at          BIGINT NOT NULL,                   -- not before; Unix microseconds
    notification_id BINARY(16) NOT NULL,
    seq             INT UNSIGNED NOT NULL,             -- within the notification
    app             VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    environment     VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- the route; empty for an audience of any
    kind            TINYINT UNSIGNED NOT NULL,         -- 0 ready to send, 1 badges to be counted first, 2 an audience to be expanded, 3 the ids of notifications to one device each; and 4 where counts are kept by platform
    recipients      INT UNSIGNED NOT NULL,
    body            MEDIUMBLOB NOT NULL,               -- the recipients, the cursor of the audience, or the ids
    PRIMARY KEY (shard, lane, due_at, notification_id, seq),
    KEY batches_notification (notification_id)
) ENGINE=InnoDB;
