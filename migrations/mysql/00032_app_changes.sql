-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS app_changes ( -- one row, which replicas poll
    id      TINYINT UNSIGNED NOT NULL,
    version BIGINT UNSIGNED NOT NULL,                 -- grows with each change of apps and app_keys
    PRIMARY KEY (id)
) ENGINE=InnoDB;
