package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/lhspn/lhspn/bench/internal/measure"
	"github.com/lhspn/lhspn/bench/internal/rig"
	"github.com/lhspn/lhspn/internal/simulator"
)

// contenders are the clients; ours is the first, h2load, where it is installed, the last.
func contenders(o options, sim *rig.Simulator, dir string) ([]contender, error) {
	ours := func(name, program string) contender {
		return contender{name, 1_000_000, true, func(ctx context.Context, address string, connections,
			count int) (measure.Report, error) {
			return oursAt(ctx, program, sim.Credentials, address, connections, count)
		}}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	if o.Base != "" {
		return []contender{ours("ours", self), ours("base", filepath.Join(o.Base, "http2"))}, nil
	}
	npm, err := filepath.Abs(filepath.Join(o.NPM, "node-apn.js"))
	if err != nil {
		return nil, fmt.Errorf("find the npm driver: %w", err)
	}
	peer := func(program string, args []string, workers int, env ...string) send {
		return func(ctx context.Context, address string, connections, count int) (measure.Report, error) {
			return rig.Client(ctx, rig.Spec{Name: program, Program: program, Env: env,
				Args: slices.Concat(args, rig.ClientArgs(address, sim.Credentials, count),
					[]string{"-connections", strconv.Itoa(connections), "-workers", strconv.Itoa(workers)})}, nil)
		}
	}
	trust := "SSL_CERT_FILE=" + filepath.Join(sim.Credentials, "ca.pem") // apns2 has no option for a CA
	list := append(make([]contender, 0, 5),
		ours("ours", self),
		contender{"sideshow/apns2, 100 goroutines", 40_000, false, peer(filepath.Join(o.Bin, "apns2"), nil, 100, trust)},
		contender{"sideshow/apns2, 1,000 goroutines", 40_000, true, peer(filepath.Join(o.Bin, "apns2"), nil, streams, trust)},
		contender{"npm @parse/node-apn", 20_000, true, peer("node", []string{npm}, streams)},
	)
	h2load, _ := exec.LookPath("h2load")
	if h2load == "" {
		fmt.Println("h2load is not installed (Debian: nghttp2-client) and left out.")
		fmt.Println()
		return list, nil
	}
	payload := filepath.Join(dir, "payload.json")
	if err := os.WriteFile(payload, []byte(rig.Payload), 0o600); err != nil {
		return nil, fmt.Errorf("write h2load's payload: %w", err)
	}
	bearer, err := providerToken(sim.Credentials)
	if err != nil {
		return nil, err
	}
	run := func(ctx context.Context, address string, connections, count int) (measure.Report, error) {
		return runH2load(ctx, h2load, dir, payload, bearer, address, connections, count)
	}
	return append(list, contender{"h2load", 400_000, false, run}), nil
}

// oursAt runs our own client in a process of its own.
func oursAt(ctx context.Context, program, credentials, address string, connections, count int) (measure.Report, error) {
	return rig.Client(ctx, rig.Spec{Name: "ours", Program: program, Args: append(
		rig.ClientArgs(address, credentials, count), "-client", "-connections", strconv.Itoa(connections))}, nil)
}

func providerToken(credentials string) (string, error) {
	pem, err := os.ReadFile(filepath.Join(credentials, "AuthKey_"+simulator.ProviderKeyID+".p8"))
	if err != nil {
		return "", fmt.Errorf("read the provider token key: %w", err)
	}
	key, err := jwt.ParseECPrivateKeyFromPEM(pem)
	if err != nil {
		return "", fmt.Errorf("read the provider token key: %w", err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": simulator.TeamID, "iat": time.Now().Unix()})
	token.Header["kid"] = simulator.ProviderKeyID
	signed, err := token.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign a provider token: %w", err)
	}
	return signed, nil
}

var (
	h2loadTime = regexp.MustCompile(`finished in ([0-9.]+)(us|ms|s|m),`)
	h2loadDone = regexp.MustCompile(`requests: .* ([0-9]+) succeeded,`)
	h2loadGood = regexp.MustCompile(`status codes: ([0-9]+) 2xx`)
)

// runH2load runs h2load, whose CPU is that of the whole process: it has no warm-up to leave out.
func runH2load(ctx context.Context, program, dir, payload, bearer, address string, connections,
	count int) (measure.Report, error) {
	uris := filepath.Join(dir, "uris-"+strings.ReplaceAll(address, ":", "-"))
	if _, err := os.Stat(uris); err != nil {
		var list bytes.Buffer
		for i := range tokens {
			fmt.Fprintf(&list, "https://%s/3/device/%s\n", address, rig.Token(i))
		}
		if err := os.WriteFile(uris, list.Bytes(), 0o600); err != nil {
			return measure.Report{}, fmt.Errorf("write h2load's addresses: %w", err)
		}
	}
	args := []string{"-n", strconv.Itoa(count), "-c", strconv.Itoa(connections), "-m", strconv.Itoa(streams), "-d",
		payload, "-i", uris}
	for _, header := range []string{
		"authorization: bearer " + bearer, "apns-topic: " + rig.Topic, "apns-push-type: alert", "apns-priority: 10",
		"apns-expiration: " + strconv.FormatInt(time.Now().Add(24*time.Hour).Unix(), 10),
		"apns-id: 01890a5d-ac96-774b-bcce-b302099a8057",
	} {
		args = append(args, "-H", header)
	}
	var out bytes.Buffer
	process, err := rig.Start(ctx, rig.Spec{Name: "h2load", Program: program, Args: args, Stdout: &out})
	if err != nil {
		return measure.Report{}, err
	}
	usage, err := process.Wait()
	if err != nil {
		return measure.Report{}, err
	}
	took, done, good := h2loadTime.FindSubmatch(out.Bytes()), h2loadDone.FindSubmatch(out.Bytes()),
		h2loadGood.FindSubmatch(out.Bytes())
	if took == nil || done == nil || good == nil {
		return measure.Report{}, fmt.Errorf("h2load printed something else than expected:\n%s", out.String())
	}
	seconds, err := time.ParseDuration(string(took[1]) + string(took[2]))
	if err != nil {
		return measure.Report{}, fmt.Errorf("h2load's time: %w", err)
	}
	succeeded, err := strconv.Atoi(string(good[1]))
	if err != nil {
		return measure.Report{}, fmt.Errorf("h2load's count: %w", err)
	}
	return measure.Report{
		Seconds: seconds.Seconds(), Count: count, Failed: count - succeeded, CPUSeconds: usage.CPU().Seconds(),
		MaxRSS: usage.MaxRSS,
	}, nil
}

// serve is a net/http server that reads a request and answers 200 with its apns-id.
func serve(ctx context.Context, o options) error {
	pair := filepath.Join(o.Credentials, "server.pem")
	return rig.ServeHTTP2(ctx, o.Address, pair, pair, streams, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("apns-id", r.Header.Get("apns-id"))
	})
}
