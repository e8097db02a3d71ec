-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS waves ( -- routes over which a replica is told more of dead or bad tokens than can be true
    app     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    route   VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    bad     BOOLEAN NOT NULL, -- they are called bad; 0: unregistered
    replica VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    PRIMARY KEY (app, route, bad, replica)
) ENGINE=InnoDB;
