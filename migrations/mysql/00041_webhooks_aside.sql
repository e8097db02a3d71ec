-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS webhooks_aside ( -- events that a webhook did not take while it took others, tried by themselves
    app      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    endpoint VARBINARY(32) NOT NULL,                  -- the SHA-256 of its URL
    n        INT UNSIGNED NOT NULL,                   -- in the order of the feed
    event    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    place    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- the cursor before it
    subject  VARBINARY(16) NOT NULL,                  -- of what it is: those of one subject wait for each other
    at       DATETIME(6) NOT NULL,                    -- when it became true
    failures INT UNSIGNED NOT NULL,
    retry_at DATETIME(6),
    PRIMARY KEY (app, endpoint, n)
) ENGINE=InnoDB;
