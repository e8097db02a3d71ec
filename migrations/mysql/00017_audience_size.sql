-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE notifications MODIFY audience MEDIUMBLOB NULL -- 10,000 users do not fit into a BLOB
;
