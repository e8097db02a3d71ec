// Command apns-simulator is a stand-in for the push services on this machine: Apple's binary gateway, feedback service
// and HTTP/2 provider API, FCM and Web Push, with a page that shows what arrived.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options are the flags that are not the simulator's configuration itself.
type options struct {
	simulator simulator.Config
	record    string
	logLevel  slog.Level
	listMagic bool
}

func run(args []string, stdout, stderr io.Writer) int {
	opts, err := parse(args, stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "apns-simulator:", err)
		return 2
	}
	if opts.listMagic {
		listMagic(stdout)
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: opts.logLevel}))
	if err := serve(ctx, opts.simulator, stdout, log); err != nil {
		_, _ = fmt.Fprintln(stderr, "apns-simulator:", err)
		return 1
	}
	return 0
}

// listMagic prints the magic tokens of every service.
func listMagic(stdout io.Writer) {
	for _, service := range []struct {
		name string
		list [][2]string
	}{{"APNs", simulator.MagicTokens()}, {"FCM", fcmsim.MagicTokens()}, {"Web Push", webpushsim.MagicSubscriptions()}} {
		_, _ = fmt.Fprintf(stdout, "%s\n", service.name)
		for _, magic := range service.list {
			_, _ = fmt.Fprintf(stdout, "%s  %s\n", magic[0], magic[1])
		}
	}
}

func serve(ctx context.Context, cfg simulator.Config, stdout io.Writer, log *slog.Logger) error {
	s, err := simulator.New(cfg, log)
	if err != nil {
		return err
	}
	for _, line := range [][2]string{
		{"provider API", s.ProviderAddr()}, {"binary gateway", s.GatewayAddr()}, {"feedback service", s.FeedbackAddr()},
	} {
		if line[1] != "" {
			_, _ = fmt.Fprintf(stdout, "%-17s %s\n", line[0], line[1])
		}
	}
	if s.FCM() != nil {
		_, _ = fmt.Fprintf(stdout, "%-17s %s (project %s)\n", "FCM", s.FCM().URL(), fcmsim.ProjectID)
	}
	if s.WebPush() != nil {
		_, _ = fmt.Fprintf(stdout, "%-17s %s\n", "Web Push", s.WebPush().Origin())
	}
	if s.PageAddr() != "" {
		_, _ = fmt.Fprintf(stdout, "%-17s http://%s/\n", "page", s.PageAddr())
	}
	if cfg.CredentialsDir != "" {
		account := ""
		if s.FCM() != nil {
			account = ", service-account.json"
		}
		_, _ = fmt.Fprintf(stdout, "%-17s %s: ca.pem, client.pem, client.p12 (password %q), AuthKey_%s.p8 (team %s)%s\n",
			"credentials", cfg.CredentialsDir, simulator.P12Password, simulator.ProviderKeyID, simulator.TeamID, account)
	}
	_, _ = fmt.Fprintln(stdout, "ready")
	return s.Run(ctx)
}

// parse reads the flags and checks what they say together.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flagSet(&o, stderr)
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	c := &o.simulator
	switch o.record {
	case "all":
		c.Record = simulator.RecordAll
	case "counts":
		c.Record = simulator.RecordCounts
	case "totals":
		c.Record = simulator.RecordTotals
	default:
		return o, fmt.Errorf("--record is all, counts or totals, not %q", o.record)
	}
	if err := webpushsim.CheckOrigin(c.WebPush.Faults.Everything); err != nil {
		return o, fmt.Errorf("--webpush-everything: %w", err)
	}
	if (c.CertificateFile == "") != (c.KeyFile == "") {
		return o, errors.New("--cert and --key go together")
	}
	return o, nil
}
