-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS idempotency_keys (
    app             VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    idempotency_key VARBINARY(255) NOT NULL,
    request_hash    BINARY(32) NOT NULL,
    answer          MEDIUMBLOB NOT NULL,               -- what the first request was answered
    created_at      DATETIME(6) NOT NULL,
    PRIMARY KEY (app, idempotency_key),
    KEY idempotency_keys_created (created_at)
) ENGINE=InnoDB;
