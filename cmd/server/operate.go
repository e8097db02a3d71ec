package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/lhspn/lhspn/internal/api"
)

// operate is what the commands app and key are told: where the service is, who asks, and for key add what to make.
type operate struct {
	url, keyFile, scope, expires string
	rate                         int
	noWait                       bool
}

// operatorKeyVariable names the environment variable with an operator's key.
const operatorKeyVariable = "OPERATOR_KEY"

func (o *operate) flags(flags *pflag.FlagSet) {
	flags.StringVar(&o.url, "url", "http://127.0.0.1:8080", "where the API is")
	flags.StringVar(&o.keyFile, "key-file", "", "the file with an operator's key; else the variable "+operatorKeyVariable)
	flags.StringVar(&o.scope, "scope", "send", "of a new key: register, send or admin")
	flags.StringVar(&o.expires, "expires-at", "", "of a new key: when it expires, as 2027-01-31T12:00:00Z")
	flags.IntVar(&o.rate, "rate", 0, "of a new key: requests a second")
	flags.BoolVar(&o.noWait, "no-wait", false, "app delete: do not wait until all that the app has is removed")
}

// call is a request that a command makes.
type call struct {
	method, path string
	body         []byte
}

// parse makes the request of a command's words, as app put NAME FILE. stdin stands for the file -.
func (o *operate) parse(command string, words []string, stdin io.Reader) (*call, error) {
	const apps = "/v1/apps"
	n := len(words)
	if n == 0 {
		return nil, errUsage
	}
	verb, app := command+" "+words[0], ""
	if n > 1 {
		app = apps + "/" + url.PathEscape(words[1])
	}
	switch {
	case verb == "app list" && n == 1:
		return &call{http.MethodGet, apps, nil}, nil
	case verb == "app get" && n == 2:
		return &call{http.MethodGet, app, nil}, nil
	case verb == "app delete" && n == 2:
		return &call{http.MethodDelete, app, nil}, nil
	case verb == "app put" && n == 3:
		body, err := readEntry(words[2], stdin)
		return &call{http.MethodPut, app, body}, err
	case verb == "key list" && n == 2:
		return &call{http.MethodGet, app + "/keys", nil}, nil
	case verb == "key revoke" && n == 3:
		return &call{http.MethodDelete, app + "/keys/" + url.PathEscape(words[2]), nil}, nil
	case verb == "key add" && n == 3:
		key := map[string]any{"name": words[2], "scope": o.scope}
		if o.rate != 0 {
			key["rate"] = o.rate
		}
		if o.expires != "" {
			key["expires_at"] = o.expires
		}
		body, err := json.Marshal(key)
		return &call{http.MethodPost, app + "/keys", body}, err
	}
	return nil, errUsage
}

func readEntry(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(file) //nolint:gosec,wrapcheck // it is the operator's; the error names it
}

// run makes the request, and prints what it is answered. Of an app that is deleted it follows the removal.
func (o *operate) run(ctx context.Context, command string, words []string, stdout, stderr io.Writer) error {
	c, err := o.parse(command, words, os.Stdin)
	if err != nil {
		return err
	}
	key, err := readKey(o.keyFile, operatorKeyVariable)
	if err != nil {
		return err
	}
	status, text, err := o.do(ctx, c, key)
	if err != nil {
		return err
	}
	var shown bytes.Buffer
	if json.Indent(&shown, bytes.TrimSpace(text), "", "  ") != nil {
		shown.Reset()
		shown.Write(text)
	}
	if status >= http.StatusMultipleChoices {
		return fmt.Errorf("%s:\n%s", statusText(status), &shown)
	}
	if command == "app" && c.method == http.MethodDelete && !o.noWait {
		return o.followRemoval(ctx, words[1], c.path, key, stderr)
	}
	if shown.Len() == 0 {
		return nil
	}
	_, err = fmt.Fprintln(stdout, &shown)
	return err
}

func statusText(status int) string { return fmt.Sprintf("%d %s", status, http.StatusText(status)) }

// do makes one request.
func (o *operate) do(ctx context.Context, c *call, key string) (status int, text []byte, err error) {
	const patience = time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, c.method, strings.TrimSuffix(o.url, "/")+c.path, bytes.NewReader(c.body))
	if err != nil {
		return 0, nil, fmt.Errorf("--url: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req) //nolint:gosec // it is for the operator to say which service it is
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if text, err = io.ReadAll(res.Body); err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	return res.StatusCode, text, nil
}

// followEvery is how often a command asks how far the removal of an app is.
const followEvery = time.Second

// followRemoval says how far the removal of the app is until nothing is left. The service goes on with it whatever
// becomes of this command.
func (o *operate) followRemoval(ctx context.Context, app, path, key string, stderr io.Writer) error {
	goesOn := func(err error) error { return fmt.Errorf("%s is deleted, and its removal goes on: %w", app, err) }
	p := startProgress(stderr, "delete "+app, "")
	defer p.end()
	p.say("its keys are refused")
	for {
		status, text, err := o.do(ctx, &call{http.MethodGet, path + "/removal", nil}, key)
		switch {
		case err != nil:
			return goesOn(err)
		case status == http.StatusNotFound:
			p.say("all is removed")
			return nil
		case status != http.StatusOK:
			return goesOn(errors.New(statusText(status)))
		}
		var left api.AppRemoval
		if err := json.Unmarshal(text, &left); err != nil {
			return goesOn(err)
		}
		p.say(describeRemoval(left))
		select {
		case <-ctx.Done():
			return goesOn(ctx.Err())
		case <-time.After(followEvery):
		}
	}
}

// describeRemoval is as "1,200 notifications and 300 device tokens left".
func describeRemoval(left api.AppRemoval) string {
	parts := []string{}
	for _, of := range []struct {
		n    int64
		what string
	}{
		{left.Recipients, "waiting recipients"}, {left.Notifications, "notifications"},
		{left.DeviceTokens, "device tokens"}, {left.EventRows, "rows of events"},
	} {
		if of.n > 0 {
			parts = append(parts, thousands(of.n)+" "+of.what)
		}
	}
	if len(parts) == 0 {
		return "little is left"
	}
	return strings.Join(parts, ", ") + " left"
}
