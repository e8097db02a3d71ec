package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// operate is what the commands app and key are told: where the service is, who asks, and for key add what to make.
type operate struct {
	url, keyFile, scope, expires string
	rate                         int
}

// operatorKeyVariable names the environment variable with an operator's key.
const operatorKeyVariable = "OPERATOR_KEY"

func (o *operate) flags(flags *pflag.FlagSet) {
	flags.StringVar(&o.url, "url", "http://127.0.0.1:8080", "where the API is")
	flags.StringVar(&o.keyFile, "key-file", "", "the file with an operator's key; else the variable "+operatorKeyVariable)
	flags.StringVar(&o.scope, "scope", "send", "of a new key: register, send or admin")
	flags.StringVar(&o.expires, "expires-at", "", "of a new key: when it expires, as 2027-01-31T12:00:00Z")
	flags.IntVar(&o.rate, "rate", 0, "of a new key: requests a second")
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

// run makes the request, and prints what it is answered.
func (o *operate) run(ctx context.Context, command string, words []string, stdout io.Writer) error {
	c, err := o.parse(command, words, os.Stdin)
	if err != nil {
		return err
	}
	key, err := readKey(o.keyFile, operatorKeyVariable)
	if err != nil {
		return err
	}
	const patience = time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, c.method, strings.TrimSuffix(o.url, "/")+c.path, bytes.NewReader(c.body))
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var shown bytes.Buffer
	if json.Indent(&shown, bytes.TrimSpace(text), "", "  ") != nil {
		shown.Reset()
		shown.Write(text)
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s:\n%s", res.Status, &shown)
	}
	if shown.Len() == 0 {
		return nil
	}
	_, err = fmt.Fprintln(stdout, &shown)
	return err
}
