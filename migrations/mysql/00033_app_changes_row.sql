-- +goose NO TRANSACTION
-- +goose Up
INSERT INTO app_changes (id, version) VALUES (0, 1) ON DUPLICATE KEY UPDATE id = id;
