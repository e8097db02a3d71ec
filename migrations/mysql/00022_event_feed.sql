-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS event_feed ( -- one row: whoever gives events their places in the feed holds it
    id     TINYINT UNSIGNED NOT NULL,
    seq    BIGINT UNSIGNED NOT NULL,                   -- the last place given
    purged BIGINT UNSIGNED NOT NULL,                   -- the last place that was removed
    secret VARBINARY(32) NOT NULL,                     -- what cursors are signed with
    PRIMARY KEY (id)
) ENGINE=InnoDB;
