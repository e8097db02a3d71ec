-- +goose NO TRANSACTION
-- +goose Up
SELECT 1 -- the index is part of the table here
;
