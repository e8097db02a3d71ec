-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS notifications (
    app             VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    id              BINARY(16) NOT NULL,               -- UUIDv7: in the order of creation
    name            VARBINARY(255) NOT NULL DEFAULT '', -- for people: a campaign's; may be empty
    state           TINYINT UNSIGNED NOT NULL DEFAULT 0, -- 0 queued, 1 sending, 2 done, 3 cancelled
    platform        VARCHAR(12) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', -- whose form these columns have; empty for apns
    environment     VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'production',
    push_type       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'alert',
    kind            VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', -- of the tokens that it is for
    topic           VARBINARY(255) NOT NULL,
    priority        TINYINT UNSIGNED NOT NULL DEFAULT 10,
    expires_at      DATETIME(6) NULL,                  -- NULL: now or never
    collapse_id     VARBINARY(64) NOT NULL DEFAULT '',
    service_id      BINARY(16) NULL,                   -- what its one delivery is called towards the service, NULL where that was not given
    badge_increment INT UNSIGNED NOT NULL DEFAULT 0,
    rate            INT UNSIGNED NOT NULL DEFAULT 0,   -- recipients a second, 0 for no limit
    payload         BLOB NOT NULL,
    badge_at        SMALLINT UNSIGNED NOT NULL DEFAULT 0, -- where each device's badge goes into the payload, 0 for nowhere
    ticket_at       SMALLINT UNSIGNED NOT NULL DEFAULT 0, -- where each recipient's ticket goes into the payload, 0 for nowhere
    contents        BLOB NULL,                         -- the forms of the other platforms, NULL where it is for one
    audience        BLOB NULL,                         -- JSON, NULL for explicit tokens
    trace           VARBINARY(24) NULL,                -- the trace and the span that it stems from, NULL where it is not traced
    shard           TINYINT UNSIGNED NOT NULL DEFAULT 0, -- of the recipient that waits here
    waiting         TINYINT UNSIGNED NOT NULL DEFAULT 0, -- 1 while the one recipient waits here, 2 where its badge must be counted first; 0: all that waits is in batches
    recipient       VARBINARY(1100) NOT NULL DEFAULT '', -- of a notification to one device: its route and token
    expanded        TINYINT UNSIGNED NOT NULL DEFAULT 1, -- 1 when recipients is final
    recipients      INT UNSIGNED NOT NULL DEFAULT 1,
    accepted        INT UNSIGNED NOT NULL DEFAULT 0,
    failed          INT UNSIGNED NOT NULL DEFAULT 0,
    unregistered    INT UNSIGNED NOT NULL DEFAULT 0,
    expired         INT UNSIGNED NOT NULL DEFAULT 0,
    cancelled       INT UNSIGNED NOT NULL DEFAULT 0,
    created_at      DATETIME(6) NOT NULL,
    send_at         DATETIME(6) NOT NULL,
    first_sent_at   DATETIME(6) NOT NULL DEFAULT '1970-01-01 00:00:00', -- that stands for not yet; a NULL would let the row
    finished_at     DATETIME(6) NOT NULL DEFAULT '1970-01-01 00:00:00', -- grow later, and make each update twice as dear
    PRIMARY KEY (app, id)
) ENGINE=InnoDB;
