-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS app_usage ( -- what each app has stored: the sums over its rows count
    app              VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    slot             SMALLINT UNSIGNED NOT NULL,       -- transactions side by side add to different ones, so that none waits
    waiting          BIGINT NOT NULL,                  -- recipients that are not sent to yet, but those of
    scheduled        BIGINT NOT NULL,                  -- notifications that were accepted for later
    idempotency_keys BIGINT NOT NULL,
    PRIMARY KEY (app, slot)
) ENGINE=InnoDB;
