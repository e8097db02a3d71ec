package internal_test

import (
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// neutral are the packages that know no platform: what is one platform's own is in its package, and in cmd/server,
// which names them all.
var neutral = []string{"push", "api", "queue", "tokens", "sender", "feedback", "database", "http2"}

// words are one platform's, whole or as the beginning of a name in Go.
var words = regexp.MustCompile(`(?i:apns|apple|iphone|ipados|macos|pushkit|voip|liveactivity|live activity|fcm|firebase|webpush|vapid)|` +
	`(?i:\b(aps|ios)\b)|\b(aps|ios|APS|IOS)[A-Z]`)

// named is where a platform's word may be all the same, and why.
var named = map[string]string{
	"api/appcontract.go":   "the contract of an app's entry does, too",
	"api/compose.go":       "where a fault is in the contract",
	"api/contract.go":      "the contract names every platform's fields, and documents them",
	"api/examples.go":      "the contract's examples have them",
	"api/routes.go":        "the contract's paths, and what is said of them",
	"api/webhooks.go":      "the contract of events, likewise",
	"push/device.go":       "the one kind of token of which what it is of has one",
	"push/notification.go": "the name of the platform whose tokens have none before them",
}

func TestNeutralPackagesNameNoPlatform(t *testing.T) {
	t.Parallel()
	var used []string
	for _, pkg := range neutral {
		files, err := filepath.Glob(pkg + "/*.go")
		if err != nil || len(files) == 0 {
			t.Errorf("%s: %v, %d files", pkg, err, len(files))
		}
		for _, file := range files {
			found := wordsIn(t, file)
			if strings.HasSuffix(file, "_test.go") || len(found) == 0 {
				continue
			}
			if named[file] == "" {
				t.Errorf("%s names a platform:\n%s", file, strings.Join(found, "\n"))
			}
			used = append(used, file)
		}
	}
	for file := range named {
		if !slices.Contains(used, file) {
			t.Errorf("%s names no platform any more: take it from the list", file)
		}
	}
}

// wordsIn are the tokens and comments of a file that have one of the words.
func wordsIn(t *testing.T, file string) (found []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s scanner.Scanner
	files := token.NewFileSet()
	s.Init(files.AddFile(file, -1, len(text)), text, nil, scanner.ScanComments)
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return found
		}
		if (tok == token.IDENT || tok == token.STRING || tok == token.COMMENT) && words.MatchString(literal) {
			found = append(found, files.Position(pos).String()+": "+literal)
		}
	}
}
