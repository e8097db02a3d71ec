-- +goose Up
CREATE INDEX IF NOT EXISTS invalidations_checked ON invalidations (app, checked_at);
