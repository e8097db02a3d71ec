-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS unique_ids ( -- what a service calls a delivery, where it says so: the sandbox of APNs does
    notification_id BINARY(16) NOT NULL,
    token           VARBINARY(1024) NOT NULL,
    unique_id       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    PRIMARY KEY (notification_id, token)
) ENGINE=InnoDB;
