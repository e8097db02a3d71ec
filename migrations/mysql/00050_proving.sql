-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS proving ( -- its one row is there while it is kept which device tokens were accepted
    id    TINYINT UNSIGNED NOT NULL,
    since DATETIME(6) NOT NULL,
    PRIMARY KEY (id)
) ENGINE=InnoDB;
