-- +goose Up
INSERT INTO app_changes (id, version) VALUES (0, 1) ON CONFLICT DO NOTHING;
