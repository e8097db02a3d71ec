-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS webhooks ( -- how far the events of an app are delivered to each of its webhooks
    app        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    endpoint   VARBINARY(32) NOT NULL,                -- the SHA-256 of its URL
    place      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- the cursor after what is delivered
    head       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- the event that failed last
    failures   INT UNSIGNED NOT NULL,                 -- how often, one time after the other
    retry_at   DATETIME(6),                           -- when it is tried again
    disabled   TINYINT UNSIGNED NOT NULL,             -- 1: the receiver has answered that it is gone
    settings   VARBINARY(32) NOT NULL,                -- the SHA-256 of those that the last four columns are of
    version    BIGINT UNSIGNED NOT NULL,              -- grows with each change of the row: only who knows it changes it
    touched_at DATETIME(6) NOT NULL,                  -- rows that nobody touches go
    PRIMARY KEY (app, endpoint)
) ENGINE=InnoDB;
