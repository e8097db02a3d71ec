package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
)

// Over both protocols the doctor says that all is well where it is.
func TestDoctor(t *testing.T) {
	t.Parallel()
	eachOnce(t, func(t *testing.T, r *rig) {
		var out strings.Builder
		if err := migrate(t.Context(), r.file, &out); err != nil {
			t.Fatal(err)
		}
		out.Reset()
		if err := doctor(t.Context(), r.file, &out); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		for _, want := range []string{"ok     configuration: ", "ok     database: reached", "schema is up to date", "takes the credentials, and answers within"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("it does not say %q:\n%s", want, &out)
			}
		}
	})
}

// Where apps that operators have set cannot be read, it says so.
func TestDoctorOfANewServiceWithOperators(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
	r.withOperator()
	var out strings.Builder
	if err := doctor(t.Context(), r.file, &out); err != nil || !strings.Contains(out.String(), "risk   apps set by API: not tried") {
		t.Errorf("%v\n%s", err, &out)
	}
}

// Apps that operators have set are tried as those of the file, beside the service too.
func TestDoctorTriesAppsSetByAPI(t *testing.T) {
	t.Parallel()
	eachOnce(t, func(t *testing.T, r *rig) {
		r.withOperator()
		r.start()
		operator := r.as(operatorKey)
		operator.call("PUT", "/v1/apps/fox", r.entry(""), 201)
		var out strings.Builder
		if err := doctor(t.Context(), r.file, &out); err != nil || !strings.Contains(out.String(), "ok     app fox, production: 127.0.0.1:") {
			t.Errorf("%v\n%s", err, &out)
		}
		operator.call("PUT", "/v1/apps/owl", strings.Replace(r.entry(""), r.sim.ProviderAddr(), "127.0.0.1:1", 1), 201)
		out.Reset()
		if err := doctor(t.Context(), r.file, &out); err == nil || !strings.Contains(out.String(), "FAULT  app owl, production: ") {
			t.Errorf("one whose gateway is away: %v\n%s", err, &out)
		}
		r.rewrite(func(text string) string {
			return strings.Replace(text, "master_key: ", "master_key: "+config.NewMasterKey()+" #", 1)
		})
		out.Reset()
		if err := doctor(t.Context(), r.file, &out); err == nil || strings.Count(out.String(), "FAULT  apps set by API: one cannot be used") != 2 {
			t.Errorf("with another master key: %v\n%s", err, &out)
		}
	})
}

// A running service has its SQLite file for itself, which is no fault of the installation that the doctor is asked about.
func TestDoctorBesideTheService(t *testing.T) {
	t.Parallel()
	address := "sqlite:" + filepath.Join(t.TempDir(), "lhspn.db")
	r := newRig(t, "http2", address)
	db, err := database.Open(t.Context(), address, database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var out strings.Builder
	if err := doctor(t.Context(), r.file, &out); err != nil || !strings.Contains(out.String(), "risk   database: not looked at") {
		t.Errorf("%v\n%s", err, &out)
	}
}

// What is wrong is told with what mends it, all of it at once.
func TestDoctorFindsFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ change, to, want string }{
		"no gateway":     {`gateway: "[^"]*"`, `gateway: "127.0.0.1:1"`, "connection refused"},
		"another key id": {`key_id: \w+`, "key_id: ABCDEFGHIJ", "mend: The credentials or the topic are wrong"},
		"no key":         {`AuthKey_`, "Absent_", "FAULT  configuration"},
		"no database":    {`database: "[^"]*"`, `database: "mysql://u:hunter2@tcp(127.0.0.1:1)/x"`, "FAULT  database: it cannot be used"},
	} {
		r := newRig(t, "http2", "sqlite:"+filepath.Join(t.TempDir(), "lhspn.db"))
		text, err := os.ReadFile(r.file)
		if err != nil {
			t.Fatal(err)
		}
		changed := regexp.MustCompile(c.change).ReplaceAllString(string(text), c.to)
		if err := os.WriteFile(r.file, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := doctor(t.Context(), r.file, &out); err == nil || !strings.Contains(err.Error(), "to be mended") {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(out.String(), c.want) || strings.Contains(out.String(), "hunter2") {
			t.Errorf("%s: want %q in\n%s", name, c.want, &out)
		}
	}
}

// The doctor looks into a server's settings and leaves no table behind.
func TestDoctorOfMySQL(t *testing.T) {
	t.Parallel()
	r := newRig(t, "http2", dbtest.NewMySQLAddress(t))
	var out strings.Builder
	if err := doctor(t.Context(), r.file, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"database: version ", "innodb_flush_log_at_trx_commit=", "the user may do what", "the clocks differ by", "server migrate"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &out)
		}
	}
}
