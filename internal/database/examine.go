package database

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Finding is what an examination has to say of one thing.
type Finding struct {
	// What is found, in a few words.
	What string
	// Mend says what to do about it; empty where all is well.
	Mend string
	// Fatal says that the service does not work so. What is to be mended otherwise is a risk.
	Fatal bool
}

// Skews from which clocks are a risk.
const riskySkew = 2 * time.Second

// Examine looks at what decides whether the service can live on the database, and how durable a commit is there: its
// version, the user's grants, settings, schema and clock. It makes a table of its own and drops it. On SQLite there is
// only the schema.
func (db *DB) Examine(ctx context.Context, connections int) []Finding {
	var all []Finding
	add := func(f Finding) { all = append(all, f) }
	if db.Dialect == MySQL {
		var version string
		if err := db.read.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
			return []Finding{{err.Error(), "the address, the user and its password", true}}
		}
		add(Finding{What: "version " + version})
		if err := db.CheckServer(ctx); err != nil {
			add(Finding{"settings", err.Error(), true})
		}
		cluster, copies := db.examineCluster(ctx, version)
		all = append(all, cluster...)
		all = append(all, db.examineDurability(ctx, copies)...)
		add(db.examineGrants(ctx))
		add(db.examineClock(ctx))
		var most int
		if db.read.QueryRowContext(ctx, "SELECT @@max_connections").Scan(&most) == nil && most < 2*connections {
			add(Finding{fmt.Sprintf("max_connections is %d, and each replica takes up to %d", most, connections),
				"a higher max_connections, or a lower database_connections", false})
		}
	} else {
		add(Finding{What: "SQLite: for one process; each commit is durable"})
	}
	switch migrated, err := Migrated(ctx, db); {
	case err != nil:
		add(Finding{"schema: " + err.Error(), "server migrate", true})
	case !migrated:
		add(Finding{"the schema is older than this program, or not there", "server migrate, or serve, which does so, too",
			false})
	default:
		add(Finding{What: "the schema is up to date"})
	}
	return all
}

// durable are the settings with which a commit outlives a crash, and what each costs otherwise. Servers that lack one
// are passed over.
var durable = []struct{ name, want, or, cost string }{
	{"innodb_flush_log_at_trx_commit", "1", "1", "a crash loses up to a second of accepted notifications"},
	{"innodb_doublewrite", "1", "ON", "a crash may leave torn pages"},
	{"sync_binlog", "1", "1", "after a crash replicas may miss, or have, what the primary does not"},
}

// examineCluster says what the server is a part of, if it is, and whether others have a copy of each commit.
func (db *DB) examineCluster(ctx context.Context, version string) (all []Finding, copies bool) {
	if strings.Contains(version, "Vitess") {
		var mode string
		_ = db.read.QueryRowContext(ctx, "SELECT @@transaction_mode").Scan(&mode)
		f := Finding{What: "Vitess, transaction_mode " + mode + "; what follows is of one server behind it"}
		if mode != "TWOPC" {
			f.Mend = "--transaction-mode TWOPC of vtgate where tables lie in several shards: a crash between two commits may " +
				"count badges of recipients that are not sent to"
		}
		return []Finding{f}, false
	}
	of := func(name string) (value string) {
		var ignored string
		_ = db.read.QueryRowContext(ctx, "SHOW GLOBAL VARIABLES LIKE '"+name+"'").Scan(&ignored, &value)
		return value
	}
	switch {
	case of("wsrep_on") == "ON":
		var name, nodes string
		_ = db.read.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'").Scan(&name, &nodes)
		f := Finding{What: "a node of a Galera cluster of " + nodes}
		if nodes == "2" {
			f.Mend = "a third node, or garbd: one of two that dies leaves the other without a majority"
		}
		return []Finding{f}, true
	case of("group_replication_group_name") != "" && of("group_replication_single_primary_mode") == "ON":
		return []Finding{{What: "a member of Group Replication with a single primary"}}, true
	case of("group_replication_group_name") != "":
		return []Finding{{What: "a member of Group Replication with several primaries"}}, true
	}
	return nil, false
}

func (db *DB) examineDurability(ctx context.Context, copies bool) (all []Finding) {
	for _, s := range durable {
		var value string
		if err := db.read.QueryRowContext(ctx, "SELECT @@"+s.name).Scan(&value); err != nil {
			continue
		}
		if s.name == "sync_binlog" {
			var on bool
			if db.read.QueryRowContext(ctx, "SELECT @@log_bin").Scan(&on) != nil || !on {
				continue
			}
		}
		f := Finding{What: s.name + "=" + value}
		if value != s.want && !strings.EqualFold(value, s.or) {
			cost := s.cost
			if copies {
				cost = strings.Replace(cost, "a crash loses", "a crash of all servers at once loses", 1)
			}
			f.Mend = "set " + s.name + "=" + s.or + ": " + cost
		}
		all = append(all, f)
	}
	return all
}

// examineGrants does with a table of its own what the service and its migrations do.
func (db *DB) examineGrants(ctx context.Context) Finding {
	table := fmt.Sprintf("lhspn_doctor_%d", time.Now().UnixNano())
	var missing []string
	made := false
	defer func() {
		if made { // by a step that failed it may be there still
			_, _ = db.write.ExecContext(ctx, "DROP TABLE IF EXISTS "+table) // without the grant it stays, as is told below
		}
	}()
	for _, step := range []struct{ grant, statement string }{
		{"CREATE", "CREATE TABLE " + table + " (a INT NOT NULL PRIMARY KEY)"},
		{"ALTER", "ALTER TABLE " + table + " ADD COLUMN b INT NOT NULL DEFAULT 0"},
		{"INDEX", "CREATE INDEX b ON " + table + " (b)"},
		{"INSERT", "INSERT INTO " + table + " (a) VALUES (1)"},
		{"SELECT", "SELECT a FROM " + table},
		{"UPDATE", "UPDATE " + table + " SET b = 2 WHERE a = 1"},
		{"DELETE", "DELETE FROM " + table + " WHERE a = 1"},
		{"DROP", "DROP TABLE " + table},
	} {
		if !made && step.grant != "CREATE" {
			break
		}
		_, err := db.write.ExecContext(ctx, step.statement)
		if err == nil {
			made = true
			continue
		}
		code := mysqlCode(err)
		if readOnly[code] {
			return Finding{"the server takes no writes: " + err.Error(), "the address of the primary", true}
		}
		if code != 1142 && code != 1044 && code != 1227 {
			return Finding{"grants: " + err.Error(), "whether the database takes writes", true}
		}
		missing = append(missing, step.grant)
	}
	if len(missing) > 0 {
		f := Finding{"the user may not " + strings.Join(missing, ", "),
			"GRANT " + strings.Join(missing, ", ") + " on the database to the user", true}
		if missing[len(missing)-1] == "DROP" {
			f.Mend += "; and drop the table " + table
		}
		return f
	}
	return Finding{What: "the user may do what the service and its migrations do"}
}

func (db *DB) examineClock(ctx context.Context) Finding {
	skew, err := db.ClockSkew(ctx)
	switch {
	case err != nil:
		return Finding{"clock: " + err.Error(), "the connection", false}
	case skew.Abs() > riskySkew:
		return Finding{fmt.Sprintf("the database's clock is %v ahead of this machine's", skew.Round(time.Millisecond)),
			"NTP on both machines", false}
	}
	return Finding{What: fmt.Sprintf("the clocks differ by %v", skew.Abs().Round(time.Millisecond))}
}
