package main

import (
	"bytes"
	"strings"
	"testing"
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
		"tail":                    `"app"`,
		"webhook-test":            `"app"`,
	} {
		var out, errs bytes.Buffer
		if status := run(strings.Fields(line), &out, &errs); status != 2 || out.Len() > 0 ||
			!strings.Contains(errs.String(), want) || !strings.Contains(errs.String(), "--help\n") {
			t.Errorf("server %s: %d, %q and %q", line, status, &out, &errs)
		}
	}
}
