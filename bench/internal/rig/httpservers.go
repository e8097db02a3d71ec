package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// StartNGHTTPD starts nghttpd with the simulator's certificate and the documents, by their paths, and returns what
// stops it. Where it is not installed, that is said, and the address is empty.
func StartNGHTTPD(ctx context.Context, dir string, sim *Simulator, streams int, documents map[string]string) (
	address string, stop func(), err error,
) {
	program, _ := exec.LookPath("nghttpd")
	if program == "" {
		fmt.Print("nghttpd is not installed (Debian: nghttp2-server) and left out.\n\n")
		return "", func() {}, nil
	}
	root := filepath.Join(dir, "htdocs")
	for path, text := range documents {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return "", nil, fmt.Errorf("make nghttpd's documents: %w", err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", nil, fmt.Errorf("make nghttpd's documents: %w", err)
		}
	}
	if address, err = FreeAddress(); err != nil {
		return "", nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", nil, err
	}
	certificate := filepath.Join(sim.Credentials, "server.pem")
	stop, err = startAt(ctx, address, Spec{Name: "nghttpd", Program: program, Args: []string{
		"-a", "127.0.0.1", "-d", root, "-m", strconv.Itoa(streams), port, certificate, certificate}})
	return address, stop, err
}

// StartServe starts this program with -serve, with which it is to call ServeHTTP2, and returns what stops it.
func StartServe(ctx context.Context, name, address, credentials string) (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return startAt(ctx, address, Spec{Name: name, Program: self,
		Args: []string{"-serve", "-address", address, "-credentials", credentials}})
}

// startAt starts a server and waits until it listens at the address.
func startAt(ctx context.Context, address string, spec Spec) (stop func(), err error) {
	process, err := Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	return func() { process.Stop(2 * time.Second) }, Reachable(ctx, address)
}

// ServeHTTP2 serves with net/http until ctx ends.
func ServeHTTP2(ctx context.Context, address, certificate, key string, streams int, handler http.HandlerFunc) error {
	server := &http.Server{
		Addr: address, ReadHeaderTimeout: 10 * time.Second, Handler: handler,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streams},
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServeTLS(certificate, key); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
