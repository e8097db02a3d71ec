package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/config"
)

// Wrong arguments end with status 2, and say what is wrong and where the help is.
func TestWrongArguments(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"sevre":                   "serve", // what it may have meant
		"serve x":                 "server serve --help",
		"--colour":                "--colour",
		"app":                     "server app --help",
		"app bogus":               "bogus",
		"app put fox":             "server app put --help",
		"key add fox":             "server key add --help",
		"import":                  "server import --help",
		"keygen --vapid --master": "[master vapid]",
		"send":                    `"token"`,
	} {
		var out, errs bytes.Buffer
		if status := run(strings.Fields(line), &out, &errs); status != 2 || out.Len() > 0 ||
			!strings.Contains(errs.String(), want) || !strings.Contains(errs.String(), "--help\n") {
			t.Errorf("server %s: %d, %q and %q", line, status, &out, &errs)
		}
	}
}

// The app need not be named where there is only one.
func TestNameApp(t *testing.T) {
	t.Parallel()
	one, two := []config.App{{Name: "fox"}}, []config.App{{Name: "fox"}, {Name: "hedgehog"}}
	for _, c := range []struct {
		apps      []config.App
		operators []config.OperatorKey
		given     string
		want, err string
	}{
		{apps: one, want: "fox"},
		{apps: two, given: "hedgehog", want: "hedgehog"},
		{apps: two, err: "the configuration has fox, hedgehog"},
		{apps: one, operators: []config.OperatorKey{{}}, err: "the configuration has fox"},
		{operators: []config.OperatorKey{{}}, err: "the configuration has none"},
	} {
		got, err := nameApp(&config.Config{Apps: c.apps, OperatorKeys: c.operators}, c.given)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}
