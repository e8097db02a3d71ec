-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS device_token_index ( -- by what an audience or a device finds its tokens
    app   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    kind  CHAR(1) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- u user, t tag, d device, e environment (sandbox only)
    value VARBINARY(600) NOT NULL,
    token VARBINARY(1024) NOT NULL,
    PRIMARY KEY (app, kind, value, token)
) ENGINE=InnoDB;
