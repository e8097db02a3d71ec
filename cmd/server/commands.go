package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/webpush"
)

// auditLevels are what the levels of the audit log are shown as.
var auditLevels = map[slog.Level]slog.Level{push.LevelAudit: slog.LevelInfo, push.LevelRefused: slog.LevelWarn}

// newLogger writes text to a terminal and JSON to anything else, unless the configuration says otherwise.
// The level can be changed while the program runs.
func newLogger(c config.Log, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	_ = level.UnmarshalText([]byte(c.Level)) // the configuration allows only levels
	format := logFormat(c, w)
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // which JSON would have in nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		if level, is := a.Value.Any().(slog.Level); is && a.Key == slog.LevelKey {
			if shown, is := auditLevels[level]; is {
				a.Value = slog.AnyValue(shown)
			}
		}
		return a
	}}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, options)), level
	}
	return slog.New(slog.NewJSONHandler(w, options)), level
}

// logFormat is text or json.
func logFormat(c config.Log, w io.Writer) string {
	switch {
	case c.Format != "auto":
		return c.Format
	case isTerminal(w):
		return "text"
	}
	return "json"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// load is config.Load for the commands that need a file.
func load(file string) (*config.Config, error) {
	if file == "" {
		return nil, errors.New("--config FILE is missing")
	}
	return config.Load(file, os.Environ())
}

// checkAddress says where the database's address is set, when it is wrong.
func checkAddress(cfg *config.Config) error {
	if err := database.CheckAddress(cfg.Database); err != nil {
		return cfg.At("database", err)
	}
	return nil
}

// check says what is wrong with the configuration and the files it names. It connects to nothing.
func check(file string, stdout io.Writer) error {
	cfg, err := load(file)
	if err != nil {
		return err
	}
	addressErr := checkAddress(cfg)
	if faults := append(config.Check(cfg), config.CheckKeys(cfg)...); len(faults) > 0 {
		return errors.Join(addressErr, faults)
	}
	if _, err := authoritiesOf(&cfg.Webhooks); err != nil {
		return cfg.At("webhooks.ca_file", err)
	}
	warnings, certificatesErr := checkCertificates(cfg, time.Now())
	own, ownErr := checkOwnCertificate(cfg, time.Now())
	if err := errors.Join(addressErr, ownErr, tryApps(cfg.Apps), certificatesErr); err != nil {
		return err
	}
	warnings = append(warnings, own...)
	warnings = append(warnings, keylessApps(cfg)...)
	for _, w := range warnings {
		if _, err := fmt.Fprintln(stdout, "warning:", w); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(stdout, "%s: no fault found, %s, %s\n", file, plural(len(cfg.Apps), "app"),
		plural(len(warnings), "warning"))
	return err
}

// plural is as "1 app" or "2 apps".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// tryApps says what is wrong with the apps' credentials and the keys of their users' proofs. It connects to nothing.
func tryApps(apps []config.App) error {
	quiet, nowhere := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	_, err := newLive(newGateways(quiet, nowhere), quiet, nowhere).start(apps, nil)
	return err
}

// migrate brings the schema up to date. serve does so too.
func migrate(ctx context.Context, file string, stderr io.Writer) error {
	cfg, err := load(file)
	if err != nil {
		return err
	}
	if err := checkAddress(cfg); err != nil {
		return err
	}
	log, _ := newLogger(cfg.Log, stderr)
	var p *progress
	defer func() {
		if p != nil {
			p.end()
		}
	}()
	db, err := openDatabaseTelling(ctx, cfg, log, func(done, all int) {
		if p == nil {
			p = startProgress(stderr, "migrate", fmt.Sprintf("of %d steps", all))
			p.whole.Store(int64(all))
		}
		p.count.Store(int64(done))
		p.part.Store(int64(done))
	})
	if err != nil {
		return err
	}
	return db.Close()
}

func keygenCommand() *cobra.Command {
	var scope string
	var vapid, master, webhook bool
	c := &cobra.Command{
		Use: "keygen", Short: "make a key, and print it with what the configuration wants of it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch out := cmd.OutOrStdout(); {
			case vapid:
				return keygenVAPID(out)
			case master:
				return printLine(out, config.NewMasterKey())
			case webhook:
				return printLine(out, config.NewWebhookSecret())
			default:
				return keygen(scope, out)
			}
		},
	}
	c.Flags().StringVar(&scope, "scope", "send", "of an API key: register, send, admin or operator")
	c.Flags().BoolVar(&vapid, "vapid", false, "make a VAPID key for Web Push in place of an API key")
	c.Flags().BoolVar(&master, "master", false, "make a master_key in place of an API key")
	c.Flags().BoolVar(&webhook, "webhook", false, "make a secret that webhooks are signed with in place of an API key")
	c.MarkFlagsMutuallyExclusive("scope", "vapid", "master", "webhook")
	return c
}

// keygenVAPID prints a new key pair for Web Push, whose public half browsers subscribe with.
func keygenVAPID(stdout io.Writer) error {
	file, public, err := webpush.GenerateVAPID()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s\n# Keep the lines above in a file that only the service can read, and name it in "+
		"the configuration:\n"+
		"#   webpush: {vapid_key_file: vapid.pem, subject: \"mailto:you@example.com\"}\n# Its public key, which GET "+
		"/v1/webpush/key gives to browsers:\n#   %s\n", file, public)
	return err
}

// keygen prints a new key, which is nowhere kept, with the hash that the configuration wants.
func keygen(scope string, stdout io.Writer) error {
	if !api.Scope(scope).Valid() && api.Scope(scope) != api.ScopeOperator {
		return fmt.Errorf("--scope must be register, send, admin or operator, not %q", scope)
	}
	key, hash := config.NewKey(scope)
	if api.Scope(scope) == api.ScopeOperator {
		_, err := fmt.Fprintf(stdout, "key: %s\n\nFor the configuration, under operator_keys:\n  - name: %s\n    sha256: "+
			"%s\n", key, scope, hash)
		return err
	}
	_, err := fmt.Fprintf(stdout, `key: %s

For the configuration, under the app's keys:
  - name: %s
    scope: %s
    sha256: %s
`, key, scope, scope, hash)
	return err
}
