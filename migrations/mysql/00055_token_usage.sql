-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS token_usage ( -- device tokens of each app: the sums over its rows, and over app_usage's, count
    app    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    slot   SMALLINT UNSIGNED NOT NULL, -- as in app_usage
    tokens BIGINT NOT NULL,
    PRIMARY KEY (app, slot)
) ENGINE=InnoDB;
