-- +goose Up
CREATE INDEX IF NOT EXISTS events_feed ON events (app, seq);
