-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS events ( -- results for app backends to read: a row has those that one transaction wrote of an app
    shard INT UNSIGNED NOT NULL,                       -- the shard whose lease it was written under; 64 where under none
    epoch BIGINT UNSIGNED NOT NULL,                    -- the lease's; the process's own number where there is none
    id    BIGINT NOT NULL,                             -- grows within shard and epoch
    seq   BIGINT UNSIGNED NOT NULL,                    -- of the last event in the feed of all apps; 0 until it has its place there
    n     INT UNSIGNED NOT NULL,                       -- how many events there are in body
    app   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    at    DATETIME(6) NOT NULL,
    body  MEDIUMBLOB NOT NULL,                         -- a line of JSON for each event, compressed; or the notifications that finished, with what an event says of them or as ids
    PRIMARY KEY (shard, epoch, id),
    KEY events_feed (app, seq),
    KEY events_seq (seq, app)
) ENGINE=InnoDB;
