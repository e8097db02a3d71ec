-- +goose Up
CREATE INDEX IF NOT EXISTS events_seq ON events (seq, app);
