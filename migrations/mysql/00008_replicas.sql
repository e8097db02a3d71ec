-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS replicas (
    id   VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    beat BIGINT UNSIGNED NOT NULL,                     -- grows while the replica lives; others watch it with their own clocks
    PRIMARY KEY (id)
) ENGINE=InnoDB;
