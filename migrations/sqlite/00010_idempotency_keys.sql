-- +goose Up
CREATE TABLE IF NOT EXISTS idempotency_keys (
    app             TEXT NOT NULL,
    idempotency_key BLOB NOT NULL,
    request_hash    BLOB NOT NULL,
    answer          BLOB NOT NULL,                     -- what the first request was answered
    created_at      TEXT NOT NULL,
    PRIMARY KEY (app, idempotency_key)
) WITHOUT ROWID, STRICT;
