-- +goose Up
CREATE TABLE IF NOT EXISTS notifications (
    app             TEXT NOT NULL,
    id              BLOB NOT NULL,                     -- UUIDv7: in the order of creation
    name            BLOB NOT NULL DEFAULT x'',         -- for people: a campaign's; may be empty
    state           INTEGER NOT NULL DEFAULT 0,        -- 0 queued, 1 sending, 2 done, 3 cancelled
    platform        TEXT NOT NULL DEFAULT '',          -- whose form these columns have; empty for apns
    environment     TEXT NOT NULL DEFAULT 'production',
    push_type       TEXT NOT NULL DEFAULT 'alert',
    kind            TEXT NOT NULL DEFAULT '', -- of the tokens that it is for
    topic           BLOB NOT NULL,
    priority        INTEGER NOT NULL DEFAULT 10,
    expires_at      TEXT NULL,                         -- NULL: now or never
    collapse_id     BLOB NOT NULL DEFAULT x'',
    service_id      BLOB NULL,                         -- what its one delivery is called towards the service, NULL where that was not given
    badge_increment INTEGER NOT NULL DEFAULT 0,
    rate            INTEGER NOT NULL DEFAULT 0,        -- recipients a second, 0 for no limit
    payload         BLOB NOT NULL,
    badge_at        INTEGER NOT NULL DEFAULT 0,        -- where each device's badge goes into the payload, 0 for nowhere
    ticket_at       INTEGER NOT NULL DEFAULT 0,        -- where each recipient's ticket goes into the payload, 0 for nowhere
    contents        BLOB NULL,                         -- the forms of the other platforms, NULL where it is for one
    audience        BLOB NULL,                         -- JSON, NULL for explicit tokens
    trace           BLOB, -- the trace and the span that it stems from, NULL where it is not traced
    shard           INTEGER NOT NULL DEFAULT 0,        -- of the recipient that waits here
    waiting         INTEGER NOT NULL DEFAULT 0,        -- 1 while the one recipient waits here, 2 where its badge must be counted first; 0: all that waits is in batches
    recipient       BLOB NOT NULL DEFAULT x'',         -- of a notification to one device: its route and token
    expanded        INTEGER NOT NULL DEFAULT 1,        -- 1 when recipients is final
    recipients      INTEGER NOT NULL DEFAULT 1,
    accepted        INTEGER NOT NULL DEFAULT 0,
    failed          INTEGER NOT NULL DEFAULT 0,
    unregistered    INTEGER NOT NULL DEFAULT 0,
    expired         INTEGER NOT NULL DEFAULT 0,
    cancelled       INTEGER NOT NULL DEFAULT 0,
    created_at      TEXT NOT NULL,
    send_at         TEXT NOT NULL,
    first_sent_at   TEXT NOT NULL DEFAULT '1970-01-01 00:00:00.000000', -- that stands for not yet
    finished_at     TEXT NOT NULL DEFAULT '1970-01-01 00:00:00.000000',
    PRIMARY KEY (app, id)
) WITHOUT ROWID, STRICT;
