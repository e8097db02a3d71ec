-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS holds ( -- routes that are held: an event has told so
    app     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    route   VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    reason  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    remedy  TEXT CHARACTER SET utf8mb4 NOT NULL,
    holders TEXT CHARACTER SET ascii NOT NULL, -- the replicas that hold it, separated by commas
    PRIMARY KEY (app, route)
) ENGINE=InnoDB;
