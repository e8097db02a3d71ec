-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS token_usage ( -- how many device tokens each app has: the sum over its rows counts; it lies where they do
    app    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    slot   SMALLINT UNSIGNED NOT NULL, -- as in app_usage
    tokens BIGINT NOT NULL,
    PRIMARY KEY (app, slot)
) ENGINE=InnoDB;
