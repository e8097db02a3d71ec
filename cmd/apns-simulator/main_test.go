package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"github.com/lhspn/lhspn/internal/simulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunRefusesWrongFlags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--nonsense"}, {"argument"}, {"--record", "some"}, {"--cert", "a.pem"}, {"--latency", "soon"}, {"--log-level", "loud"}, {"--webpush-everything", "loud"},
	} {
		var out, errs bytes.Buffer
		if code := run(args, &out, &errs); code != 2 || errs.Len() == 0 {
			t.Errorf("%q: exit %d, %q", args, code, errs.String())
		}
	}
	var out, errs bytes.Buffer
	if code := run([]string{"--gateway", "256.0.0.1:1", "--provider", "", "--feedback", "", "--page", "", "--fcm", "", "--webpush", ""}, &out, &errs); code != 1 ||
		!strings.Contains(errs.String(), "listen for the binary gateway") {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}

func TestHelpAndMagicTokens(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if code := run([]string{"--help"}, &out, &errs); code != 0 || !strings.Contains(errs.String(), "--shutdown-after int") {
		t.Errorf("--help: exit %d, %q", code, errs.String())
	}
	out.Reset()
	if code := run([]string{"--list-magic-tokens"}, &out, &errs); code != 0 || !strings.Contains(out.String(), "deadfa17c0de0008  invalid token") ||
		!strings.Contains(out.String(), "\nFCM\ndeadfa17c0de0012  ") {
		t.Errorf("--list-magic-tokens: exit %d, %q", code, out.String())
	}
}

func TestFlagsReachTheConfiguration(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"--record", "totals", "--latency", "20ms", "--go-away-every", "9", "--streams", "7", "--fcm-streams", "9", "--fcm-latency", "3s", "--provider", "x:1", "--host", "a,b"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c := o.simulator
	if c.Record != simulator.RecordTotals || c.Faults.Latency != 20*time.Millisecond || c.Faults.GoAwayEvery != 9 ||
		c.MaxConcurrentStreams != 7 || c.Provider != "x:1" || len(c.Hosts) != 2 || c.Gateway != "127.0.0.1:2195" ||
		c.FCM.MaxStreams != 9 || c.FCM.Faults.Latency != 3*time.Second || c.FCM.Address != "127.0.0.1:2198" {
		t.Errorf("%+v", c)
	}
}

func TestServePrintsWhereItIsAndEndsWithTheContext(t *testing.T) {
	t.Parallel()
	certs := filepath.Join(t.TempDir(), "certs")
	o, err := parse([]string{"--gateway", "127.0.0.1:0", "--feedback", "", "--provider", "127.0.0.1:0", "--fcm", "127.0.0.1:0", "--webpush", "127.0.0.1:0", "--page", "127.0.0.1:0", "--certs", certs}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, o.simulator, write, slog.New(slog.DiscardHandler))
		_ = write.Close()
	}()
	lines := bufio.NewScanner(read)
	page := ""
	for lines.Scan() && lines.Text() != "ready" {
		if rest, ok := strings.CutPrefix(lines.Text(), "page"); ok {
			page = strings.TrimSpace(rest)
		}
		if strings.HasPrefix(lines.Text(), "feedback") {
			t.Errorf("a service that is off is announced: %s", lines.Text())
		}
	}
	transport := &http.Transport{}
	resp, err := (&http.Client{Transport: transport}).Get(page)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	transport.CloseIdleConnections()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the page: %s", resp.Status)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestDocumentationNamesEveryFlag(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/simulator.md")
	if err != nil {
		t.Fatal(err)
	}
	flagSet(&options{}, io.Discard).VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(string(doc), "`--"+f.Name+"`") {
			t.Errorf("docs/simulator.md does not name --%s", f.Name)
		}
	})
}
