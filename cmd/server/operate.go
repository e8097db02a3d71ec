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

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lhspn/lhspn/internal/api"
)

// operatorKeyVariable names the environment variable with an operator's key.
const operatorKeyVariable = "OPERATOR_KEY"

// operator asks and tells a running service with an operator's key.
type operator struct{ url, keyFile string }

func (o *operator) flags(flags *pflag.FlagSet) {
	flags.StringVar(&o.url, "url", "http://127.0.0.1:8080", "where the API is")
	flags.StringVar(&o.keyFile, "key-file", "", "the `FILE` with an operator's key; else the variable "+operatorKeyVariable)
}

func appCommand() *cobra.Command {
	var o operator
	var noWait bool
	remove := &cobra.Command{
		Use: "delete NAME", Short: "remove the app with all it has", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := o.show(cmd, http.MethodDelete, appPath(args[0]), nil)
			if err != nil || noWait {
				return err
			}
			return o.followRemoval(cmd.Context(), args[0], key, cmd.ErrOrStderr())
		},
	}
	remove.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until all that the app has is removed")
	c := group("app", "the apps of a running service, with an operator's key",
		&cobra.Command{Use: "list", Short: "list the apps", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := o.show(cmd, http.MethodGet, appsPath, nil)
				return err
			}},
		&cobra.Command{Use: "get NAME", Short: "show an app", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				_, err := o.show(cmd, http.MethodGet, appPath(args[0]), nil)
				return err
			}},
		&cobra.Command{Use: "put NAME FILE", Args: cobra.ExactArgs(2),
			Short: "add an app, or replace its settings, from JSON; FILE - is standard input",
			RunE: func(cmd *cobra.Command, args []string) error {
				body, err := readFile(args[1], cmd.InOrStdin())
				if err != nil {
					return err
				}
				_, err = o.show(cmd, http.MethodPut, appPath(args[0]), body)
				return err
			}},
		remove)
	o.flags(c.PersistentFlags())
	return c
}

func keyCommand() *cobra.Command {
	var o operator
	var scope, expires string
	var rate int
	add := &cobra.Command{
		Use: "add APP NAME", Short: "make a key and print it: it is shown this once", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			key := map[string]any{"name": args[1], "scope": scope}
			if rate != 0 {
				key["rate"] = rate
			}
			if cmd.Flags().Changed("expires-at") { // an empty one, as of a variable that is not set, is refused
				key["expires_at"] = expires
			}
			body, err := json.Marshal(key)
			if err != nil {
				return fmt.Errorf("encode the key: %w", err)
			}
			_, err = o.show(cmd, http.MethodPost, keysPath(args[0]), body)
			return err
		},
	}
	add.Flags().StringVar(&scope, "scope", "send", "register, send or admin")
	add.Flags().StringVar(&expires, "expires-at", "", "when it expires, as 2027-01-31T12:00:00Z")
	add.Flags().IntVar(&rate, "rate", 0, "requests a second")
	c := group("key", "the keys of an app of a running service, with an operator's key",
		&cobra.Command{Use: "list APP", Short: "list the app's keys", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				_, err := o.show(cmd, http.MethodGet, keysPath(args[0]), nil)
				return err
			}},
		add,
		&cobra.Command{Use: "revoke APP NAME", Short: "have the key refused from now on", Args: cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				_, err := o.show(cmd, http.MethodDelete, keysPath(args[0])+"/"+url.PathEscape(args[1]), nil)
				return err
			}})
	o.flags(c.PersistentFlags())
	return c
}

const appsPath = "/v1/apps"

func appPath(app string) string { return appsPath + "/" + url.PathEscape(app) }

func keysPath(app string) string { return appPath(app) + "/keys" }

// readFile reads the file, or stdin where that is -.
func readFile(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(file) //nolint:gosec,wrapcheck // it is the operator's; the error names it
}

// show makes the request, and prints what it is answered. It returns the key that it asked with.
func (o *operator) show(cmd *cobra.Command, method, path string, body []byte) (key string, err error) {
	if key, err = readKey(o.keyFile, operatorKeyVariable); err != nil {
		return "", err
	}
	status, text, err := o.do(cmd.Context(), method, path, body, key)
	if err != nil {
		return "", err
	}
	var shown bytes.Buffer
	if json.Indent(&shown, bytes.TrimSpace(text), "", "  ") != nil {
		shown.Reset()
		shown.Write(text)
	}
	if status < http.StatusMultipleChoices && shown.Len() > 0 && !json.Valid(text) {
		return "", errors.New("what answers at --url is not the service: it gave no JSON")
	}
	if status >= http.StatusMultipleChoices {
		return "", fmt.Errorf("%s:\n%s", statusText(status), &shown)
	}
	if shown.Len() == 0 {
		return key, nil
	}
	return key, printLine(cmd.OutOrStdout(), shown.String())
}

func statusText(status int) string { return fmt.Sprintf("%d %s", status, http.StatusText(status)) }

// do makes one request.
func (o *operator) do(ctx context.Context, method, path string, body []byte, key string) (
	status int, text []byte, err error,
) {
	const patience = time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(o.url, "/")+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("--url: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := asked.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if text, err = io.ReadAll(res.Body); err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	return res.StatusCode, text, redirected(res)
}

// asked makes the requests of commands. It follows no redirect: of most a PUT, a POST or a DELETE would come out as a
// GET, whose answer looks like a success.
var asked = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// redirected is an error where the answer leads elsewhere.
func redirected(res *http.Response) error {
	to, err := res.Location()
	if err != nil || res.StatusCode/100 != 3 {
		return nil //nolint:nilerr // it leads nowhere
	}
	return fmt.Errorf("%s: the service is at %s://%s, which is to be --url", res.Status, to.Scheme, to.Host)
}

// followEvery is how often a command asks how far the removal of an app is.
const followEvery = time.Second

// followRemoval says how far the removal of the app is until nothing is left. The service goes on with it whatever
// becomes of this command.
func (o *operator) followRemoval(ctx context.Context, app, key string, stderr io.Writer) error {
	goesOn := func(err error) error { return fmt.Errorf("%s is deleted, and its removal goes on: %w", app, err) }
	p := startProgress(stderr, "delete "+app, "")
	defer p.end()
	p.say("its keys are refused")
	for {
		status, text, err := o.do(ctx, http.MethodGet, appPath(app)+"/removal", nil, key)
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
