-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS bad_tokens ( -- answers that say "wrong token or wrong environment"
    app      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    token    VARBINARY(1024) NOT NULL,
    environment VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- where they came from
    kind     VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- of the notifications
    answers  INT UNSIGNED NOT NULL,
    first_at DATETIME(6) NOT NULL,
    last_at  DATETIME(6) NOT NULL,
    PRIMARY KEY (app, token, environment, kind)
) ENGINE=InnoDB;
