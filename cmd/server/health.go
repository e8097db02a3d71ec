package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// healthTimeout is how long a service may take to say how it is.
const healthTimeout = 5 * time.Second

// defaultOpsListen is the default of the setting ops_listen.
const defaultOpsListen = "127.0.0.1:9090"

func healthCommand() *cobra.Command {
	var url string
	c := withConfig("health", "ask the service that runs here whether it is ready, as health checks do",
		func(cmd *cobra.Command, file string) error {
			return health(cmd.Context(), file, url, cmd.OutOrStdout())
		})
	c.Flags().StringVar(&url, "url", "",
		"what is asked, in place of /readyz of ops_listen in the file or LHSPN_OPS_LISTEN")
	return c
}

// health asks a running service on this machine whether it is ready, for images that have no other program to ask with.
// The address is url, or that of ops_listen in the file or the environment. The error says why it is not ready.
func health(ctx context.Context, file, url string, stdout io.Writer) error {
	if url == "" {
		address, err := opsListen(file)
		if err != nil {
			return err
		}
		url = "http://" + localAddress(address) + "/readyz"
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req) // by no proxy
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, resp.Status, strings.TrimSpace(string(text)))
	}
	_, err = fmt.Fprintf(stdout, "%s: %s\n", url, resp.Status)
	return err
}

// opsListen is where the operators' endpoints of a service with this file are. Nothing else of the file is looked at: a
// service goes on with what it read before when its file has become wrong. A file that is absent is dev mode.
func opsListen(file string) (string, error) {
	var given struct {
		OpsListen string `yaml:"ops_listen"`
	}
	if file != "" {
		text, err := os.ReadFile(file) //nolint:gosec // it is the operator's own
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("read the configuration: %w", err)
		}
		if err := yaml.Unmarshal(text, &given); err != nil {
			return "", fmt.Errorf("read the configuration: %w", err)
		}
	}
	return cmp.Or(os.Getenv("LHSPN_OPS_LISTEN"), given.OpsListen, defaultOpsListen), nil
}

// localAddress is how one that is listened on is reached from this machine.
func localAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address // the request says what is wrong with it
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
