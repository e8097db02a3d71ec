package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/apps"
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

// The app need not be named where there is only one, wherever it is set.
func TestFindOnlyApp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file      []config.App
		stored    []apps.App
		want, err string
	}{
		{file: []config.App{{Name: "fox"}}, want: "fox"},
		{stored: []apps.App{{Name: "fox"}}, want: "fox"},
		{file: []config.App{{Name: "fox"}, {Name: "hedgehog"}}, err: "the apps are: fox, hedgehog"},
		{file: []config.App{{Name: "fox"}}, stored: []apps.App{{Name: "owl"}}, err: "the apps are: fox, owl"},
		{err: "the apps are: none"},
	} {
		got, err := onlyApp(c.file, c.stored)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}
