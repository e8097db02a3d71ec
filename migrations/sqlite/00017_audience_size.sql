-- +goose Up
SELECT 1; -- a BLOB has no such bound here
