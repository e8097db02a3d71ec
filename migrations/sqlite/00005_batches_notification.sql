-- +goose Up
CREATE INDEX IF NOT EXISTS batches_notification ON batches (notification_id);
