-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS backlog ( -- what acceptance adds; settling subtracts in shards.backlog, so that neither waits for the other
    slot       SMALLINT UNSIGNED NOT NULL,             -- one a committer, more or less
    recipients BIGINT NOT NULL,
    PRIMARY KEY (slot)
) ENGINE=InnoDB;
