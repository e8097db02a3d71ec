package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lhspn/lhspn/internal/api"
)

// On a terminal one line is written over, and the last one stays.
func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		p := &progress{out: &out, what: "import", unit: "lines", terminal: true, width: func() int { return 60 }}
		p.whole.Store(4000)
		p.start()
		p.count.Store(1000)
		<-time.After(250 * time.Millisecond)
		p.count.Store(12345)
		p.part.Store(1000)
		<-time.After(2 * time.Second)
		p.part.Store(4000)
		p.end()
		got := strings.Split(out.String(), "\r")
		if got[1] != "import: 1,000 lines, 0%" {
			t.Errorf("at first %q", got[1])
		}
		if before := got[len(got)-2]; before != "import: 12,345 lines, 25%, 5,611 a second, 7s left" {
			t.Errorf("then %q", before)
		}
		if last := got[len(got)-1]; last != "import: 12,345 lines, 100%, 5,486 a second, in 2s \n" {
			t.Errorf("at last %q", last) // with a blank over what the line before had more
		}
		if lines := strings.Count(out.String(), "\n"); lines != 1 {
			t.Errorf("%d lines", lines)
		}
	})
}

// A line that is wider than the terminal would wrap, and could not be written over.
func TestProgressOnANarrowTerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := &progress{out: &out, what: "export", unit: "lines", terminal: true, width: func() int { return 12 }}
	p.start()
	p.end()
	if out.String() != "\rexport: 0 l\n" {
		t.Errorf("%q", out.String())
	}
}

// Anywhere else there are whole lines, at intervals that fill no log.
func TestProgressElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		p := startProgress(&out, "export", "lines")
		r := p.read(strings.NewReader("a\nb\nc\n"))
		if _, err := r.Read(make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		<-time.After(21 * time.Second)
		p.end()
		const want = "export: 2 lines, in 10s\nexport: 2 lines, in 20s\nexport: 2 lines, in 21s\n"
		if out.String() != want {
			t.Errorf("%q", out.String())
		}
	})
}

// What is left of an app is told in words.
func TestRemovalInWords(t *testing.T) {
	t.Parallel()
	for want, left := range map[string]api.AppRemoval{
		"3 waiting recipients, 100,000 notifications, 1,234 device tokens left": {
			Recipients: 3, Notifications: 100_000, DeviceTokens: 1234,
		},
		"7 rows of events left": {EventRows: 7},
		"little is left":        {},
	} {
		if got := describeRemoval(left); got != want {
			t.Errorf("%+v: %q", left, got)
		}
	}
}

// A command that loses the service says that the removal goes on.
func TestRemovalGoesOn(t *testing.T) {
	t.Parallel()
	answers := []int{http.StatusNoContent, http.StatusBadGateway}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(answers[0])
		answers = answers[1:]
	}))
	t.Cleanup(service.Close)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, told strings.Builder
	status := run([]string{"app", "delete", "fox", "--url", service.URL, "--key-file", key}, &out, &told)
	if status != 1 || !strings.Contains(told.String(), "fox is deleted, and its removal goes on: 502 Bad Gateway") {
		t.Errorf("status %d, told %q", status, &told)
	}
}

// The file comes to the service whole, with the key, and the answer is what is printed.
func TestImportAndExport(t *testing.T) {
	const line = `{"token":"c0ffee"}` + "\n"
	tokens := strings.Repeat(line, 5000)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"detail":"who are you"}`))
			return
		}
		switch r.Method + " " + r.URL.Path {
		case "POST /v1/tokens/import":
			var got strings.Builder
			if _, err := io.Copy(&got, r.Body); err != nil || got.String() != tokens {
				t.Errorf("%d bytes, %v", got.Len(), err)
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"lines": 5000, "imported": 5000}`))
		case "GET /v1/tokens/export":
			w.Header().Set("Content-Type", "application/x-ndjson")
			_, _ = w.Write([]byte(tokens))
		default:
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
	}))
	t.Cleanup(api.Close)
	dir := t.TempDir()
	file, key := filepath.Join(dir, "tokens.ndjson"), filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(status int, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errOut strings.Builder
		if got := run(append(args, "--url", api.URL), &out, &errOut); got != status {
			t.Errorf("%v: status %d: %s%s", args, got, &out, &errOut)
		}
		return out.String(), errOut.String()
	}
	if _, told := command(0, "export", file, "--key-file", key); !strings.Contains(told, "export: 5,000 lines") {
		t.Errorf("told %q", told)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || info.Size() != int64(len(tokens)) {
		t.Errorf("exported %v, %v", info, err)
	}
	out, told := command(0, "import", file, "--key-file", key)
	if !strings.Contains(out, `"imported": 5000`) || !strings.Contains(told, "import: 5,000 lines, 100%") {
		t.Errorf("printed %q, told %q", out, told)
	}
	t.Setenv("ADMIN_KEY", "wrong")
	if _, told := command(1, "import", file); !strings.Contains(told, "who are you") {
		t.Errorf("told %q", told)
	}
	t.Setenv("ADMIN_KEY", "secret")
	if out, _ := command(0, "export", "-"); out != tokens {
		t.Errorf("printed %d bytes", len(out))
	}
	command(2, "import")
	command(2, "export", file, file)
	command(1, "import", filepath.Join(dir, "absent"))
	t.Setenv("ADMIN_KEY", "")
	if _, told := command(1, "export", "-"); !strings.Contains(told, "ADMIN_KEY") {
		t.Errorf("told %q", told)
	}
}

// What is answered with a page, as by a captive portal, is no import and no export, and the file of before stays.
func TestImportAndExportElsewhere(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write([]byte("<html>Welcome</html>"))
	}))
	t.Cleanup(page.Close)
	t.Setenv("ADMIN_KEY", "secret")
	const before = `{"token":"c0ffee"}` + "\n"
	file := filepath.Join(t.TempDir(), "tokens.ndjson")
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"import", "export"} {
		var out, told strings.Builder
		status := run([]string{command, file, "--url", page.URL}, &out, &told)
		if status != 1 || out.Len() > 0 || !strings.Contains(told.String(), "text/html") {
			t.Errorf("%s: status %d, printed %q, told %q", command, status, &out, &told)
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != before {
			t.Errorf("%s: the file has %q, %v", command, text, err)
		}
	}
}

// A redirect, as of a proxy that leads to https, would make a GET of what changes something, and its answer look like a success.
func TestCommandsFollowNoRedirect(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/elsewhere" {
			http.Redirect(w, r, "/elsewhere", http.StatusMovedPermanently)
			return
		}
		_, _ = w.Write([]byte(`{"keys": []}`))
	}))
	t.Cleanup(service.Close)
	t.Setenv("OPERATOR_KEY", "secret")
	t.Setenv("ADMIN_KEY", "secret")
	file := filepath.Join(t.TempDir(), "some.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{"app", "list"}, {"app", "put", "fox", file}, {"app", "delete", "fox"}, {"key", "add", "fox", "backend"}, {"key", "revoke", "fox", "backend"},
		{"import", file}, {"export", filepath.Join(t.TempDir(), "tokens.ndjson")},
	} {
		var out, told strings.Builder
		status := run(append(command, "--url", service.URL), &out, &told)
		if status != 1 || out.Len() > 0 || !strings.Contains(told.String(), "301 Moved Permanently: the service is at "+service.URL) {
			t.Errorf("%v: status %d, printed %q, told %q", command, status, &out, &told)
		}
	}
}

// Nor is a page an answer to an operator, or an import whose lines were refused a success.
func TestAnswersThatAreNoSuccess(t *testing.T) {
	answer := "<html>Welcome</html>"
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(service.Close)
	t.Setenv("OPERATOR_KEY", "secret")
	t.Setenv("ADMIN_KEY", "secret")
	file := filepath.Join(t.TempDir(), "tokens.ndjson")
	if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, told strings.Builder
	if status := run([]string{"app", "get", "fox", "--url", service.URL}, &out, &told); status != 1 || !strings.Contains(told.String(), "not the service") {
		t.Errorf("status %d, told %q", status, &told)
	}
	answer = `{"lines": 1, "imported": 0, "refused": 1, "errors": [{"line": 1, "message": "is no token"}]}`
	if status := run([]string{"import", file, "--url", service.URL}, &out, &told); status != 1 || !strings.Contains(told.String(), "1 lines were refused") ||
		!strings.Contains(out.String(), "is no token") {
		t.Errorf("status %d, printed %q, told %q", status, &out, &told)
	}
}

// An export that breaks off is an error, and leaves the file of before as it was, and nothing beside it.
func TestExportBreaksOff(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		_, _ = w.Write([]byte(`{"token":"c0ffee"}` + "\n"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(service.Close)
	t.Setenv("ADMIN_KEY", "secret")
	const before = "the export of yesterday\n"
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens.ndjson")
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, told strings.Builder
	status := run([]string{"export", file, "--url", service.URL}, &out, &told)
	if status != 1 || !strings.Contains(told.String(), "the export is incomplete") {
		t.Errorf("status %d, told %q", status, &told)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != before {
		t.Errorf("the file has %q, %v", text, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// What is no plain file is written to as it is: it cannot be replaced.
func TestExportIntoADevice(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
	}))
	t.Cleanup(service.Close)
	t.Setenv("ADMIN_KEY", "secret")
	var out, told strings.Builder
	if status := run([]string{"export", os.DevNull, "--url", service.URL}, &out, &told); status != 0 {
		t.Errorf("status %d, told %q", status, &told)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Fatalf("%v, %v", info, err)
	}
	dir := t.TempDir()
	file, link := filepath.Join(dir, "tokens.ndjson"), filepath.Join(dir, "latest")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status := run([]string{"export", link, "--url", service.URL}, &out, &told); status != 0 {
			t.Errorf("through a link: status %d, told %q", status, &told)
		}
		if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Errorf("the link: %v, %v", info, err)
		}
		if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
			t.Errorf("the file: %v, %v", info, err)
		}
	}
}

// The steps are told while they are taken; what is up to date has none.
func TestMigrateTellsItsSteps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "lhspn.yaml")
	text := "database: sqlite:lhspn.db\napps: [{name: a, apns: {topic: b, key_file: key.p8, key_id: ABCDEFGHIJ, team_id: ABCDEFGHIJ}}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var first, second lockedBuffer
	if err := migrate(t.Context(), file, &first); err != nil {
		t.Fatal(err)
	}
	if told := first.String(); !strings.Contains(told, "migrate: ") || !strings.Contains(told, " steps, 100%") {
		t.Errorf("told %q", told)
	}
	if err := migrate(t.Context(), file, &second); err != nil || second.String() != "" {
		t.Errorf("the second time %q, %v", second.String(), err)
	}
}
