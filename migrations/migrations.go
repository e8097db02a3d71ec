// Package migrations embeds the schema, one folder an engine, as goose reads it. Migrations are append-only: expand,
// then contract. MySQL commits DDL implicitly, so each file there is one statement that can be run again.
package migrations

import "embed"

// FS holds mysql/*.sql and sqlite/*.sql, the same versions in both.
//
//go:embed mysql/*.sql sqlite/*.sql
var FS embed.FS
