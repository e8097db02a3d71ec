-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS shards (
    shard   TINYINT UNSIGNED NOT NULL,
    owner   VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- replicas.id, empty for nobody
    epoch   BIGINT UNSIGNED NOT NULL,                  -- grows with each change of owner: the fence
    backlog BIGINT NOT NULL,                           -- recipients that wait in its batches
    PRIMARY KEY (shard)
) ENGINE=InnoDB;
