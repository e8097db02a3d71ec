-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS invalidations ( -- the inbox of dead tokens, and its history
    app            VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    token          VARBINARY(1024) NOT NULL,
    invalidated_at DATETIME(6) NOT NULL,               -- since when APNs knows the token as dead
    source         VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- feedback, unregistered, bad_token
    environment    VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', -- where the answers came from; empty for any
    kind           VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', -- of the notifications; with an environment only
    removed        TINYINT UNSIGNED NOT NULL DEFAULT 0,
    checked_at     DATETIME(6) NULL,                   -- NULL until the scheduled job has decided
    PRIMARY KEY (app, token, invalidated_at, source),
    KEY invalidations_checked (app, checked_at)
) ENGINE=InnoDB;
