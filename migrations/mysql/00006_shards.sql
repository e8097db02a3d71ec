-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS shards (
    shard   TINYINT UNSIGNED NOT NULL,
    owner   VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- replicas.id, empty for nobody
    epoch   BIGINT UNSIGNED NOT NULL,                  -- grows with each change of owner: the fence
    writes  BIGINT UNSIGNED NOT NULL,                  -- grows with each transaction under the lease: a row that changes is a fence on every engine
    PRIMARY KEY (shard)
) ENGINE=InnoDB;
