package main

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
)

// A user of whom the database REQUIREs X509 is let in with the client certificate, over TLS, and not without.
func TestDatabaseOverTLS(t *testing.T) {
	t.Parallel()
	certificates := os.Getenv("LHSPN_TEST_MYSQL_CERTIFICATES")
	if certificates == "" {
		t.Skip("no certificates: run the tests by scripts/testdb or scripts/mysqldb")
	}
	address := dbtest.MySQLAddress(t)
	root, err := database.Open(t.Context(), address, database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var name string
	if err := root.Reader().Get(&name, "SELECT DATABASE()"); err != nil {
		t.Fatal(err)
	}
	user := strings.Replace(name, "lhspn_test_", "x", 1)
	execute := func(statement string) {
		if _, err := root.Reader().Exec(statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	execute("CREATE USER " + user + " REQUIRE X509")
	defer execute("DROP USER " + user)
	execute("GRANT ALL ON " + name + ".* TO " + user)

	cfg := config.Config{Database: strings.Replace(address, "root@", user+"@", 1), DatabaseCAFile: filepath.Join(certificates, "ca.pem")}
	if db, err := openDatabase(t.Context(), &cfg, slog.New(slog.DiscardHandler)); err == nil {
		db.Close()
		t.Error("let in without a certificate")
	}
	cfg.DatabaseCertificateFile = filepath.Join(certificates, "client.pem")
	cfg.DatabaseKeyFile = filepath.Join(certificates, "client.key")
	db, err := openDatabase(t.Context(), &cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var variable, cipher string
	if err := db.Reader().QueryRow("SHOW SESSION STATUS LIKE 'Ssl_cipher'").Scan(&variable, &cipher); err != nil || cipher == "" {
		t.Errorf("the connection is not encrypted: %v", err)
	}
}

// A database that has become read only takes nothing: the service is not ready once its leases could not be renewed for
// as long as one lasts, and the log says why.
func TestNotReadyOnAReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	address := dbtest.NewMySQLAddress(t)
	root, err := database.Open(t.Context(), address, database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	dbtest.NotOnVitess(t, root, "it has no triggers")
	r := newRig(t, "http2", address)
	r.start()
	ready := func(want int) func() bool {
		return func() bool {
			res, err := http.Get(r.ops + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			return res.StatusCode == want
		}
	}
	r.until("it is ready", ready(200))
	execute := func(statement string) {
		if _, err := root.Reader().Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	execute("CREATE TRIGGER read_only BEFORE UPDATE ON replicas FOR EACH ROW " +
		"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = 'The server is running with --read-only'")
	r.until("it is not ready", ready(503))
	r.until("the log says why", func() bool { return strings.Contains(r.logs.String(), "Error 1290") })
	execute("DROP TRIGGER read_only")
	r.until("it is ready again", ready(200))
}
