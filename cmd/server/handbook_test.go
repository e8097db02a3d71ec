package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

const treeRoot = "../.."

// shellBlocks are the blocks of a page that a shell runs, one after the other: those below the heading, up to the next.
func shellBlocks(t *testing.T, page, heading string) string {
	t.Helper()
	_, text, found := strings.Cut(readPage(t, page), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no heading %q", page, heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	blocks := ""
	for {
		_, rest, found := strings.Cut(text, "```sh\n")
		if !found {
			return blocks
		}
		block, after, _ := strings.Cut(rest, "```")
		blocks, text = blocks+block, after
	}
}

func readPage(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(treeRoot, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// shell runs the text against dev mode, in the place of the addresses that it has by default.
func (d *devMode) shell(text string) string {
	d.t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		d.t.Skip("needs curl")
	}
	text = strings.NewReplacer("http://127.0.0.1:8080", strings.TrimSuffix(d.api, "/"),
		"http://127.0.0.1:8082", strings.TrimSuffix(d.page, "/")).Replace(text)
	out, err := exec.CommandContext(d.t.Context(), "bash", "-ec", text).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// What the README and the first pages of the handbook have somebody type does what they say.
func TestFirstSteps(t *testing.T) {
	t.Parallel()
	d := startDevMode(t)
	d.shell(shellBlocks(t, "README.md", "## A first notification"))
	told := d.shell(`curl -s -H 'Authorization: Bearer lhspn-dev-key' "http://127.0.0.1:8080/v1/events?types=notification.done&limit=1&wait=30"
		echo
		until curl -s -H 'Authorization: Bearer lhspn-dev-key' http://127.0.0.1:8080/v1/notifications | grep -o '"accepted":3' | wc -l | grep -q 2
		do sleep 0.1; done`)
	if !strings.Contains(told, "notification.done") {
		t.Errorf("the feed has %s", told)
	}
	told = d.shell(shellBlocks(t, "docs/getting-started.md", "## On your own machine"))
	for _, want := range []string{`"type":"token.removed"`, `"reason":"Unregistered"`, "urn:lhspn:problem:not-found"} {
		if !strings.Contains(told, want) {
			t.Errorf("no %s in %s", want, told)
		}
	}
}

// link is a link of Markdown, or a picture.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// What pages link to within the tree is there, headings too.
func TestLinksOfPages(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, dir := range []string{".", "docs", "bench", "deploy"} {
		err := fs.WalkDir(os.DirFS(filepath.Join(treeRoot, dir)), ".", func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && path != "." && (dir == "." || e.Name() == "node_modules") {
				return fs.SkipDir
			}
			if strings.HasSuffix(path, ".md") {
				pages = append(pages, filepath.Join(dir, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, page := range pages {
		for _, m := range link.FindAllStringSubmatch(withoutBlocks(readPage(t, page)), -1) {
			wantLink(t, page, m[1])
		}
	}
}

func wantLink(t *testing.T, page, target string) {
	t.Helper()
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return
	}
	file, anchor, _ := strings.Cut(target, "#")
	path := page
	if file != "" {
		path = filepath.Join(filepath.Dir(page), file)
	}
	if _, err := os.Stat(filepath.Join(treeRoot, path)); err != nil {
		t.Errorf("%s links to %s, which is not there", page, target)
		return
	}
	if anchor != "" && strings.HasSuffix(path, ".md") && !hasHeading(readPage(t, path), anchor) {
		t.Errorf("%s links to %s, a heading that is not there", page, target)
	}
}

// withoutBlocks leaves out what is shown as it is.
func withoutBlocks(text string) string {
	kept := ""
	for i, part := range strings.Split(text, "```") {
		if i%2 == 0 {
			kept += part
		}
	}
	return kept
}

// hasHeading reports whether a heading of the page, or an anchor in it, is called so, as GitHub makes anchors of headings.
func hasHeading(text, anchor string) bool {
	if strings.Contains(text, `<a id="`+anchor+`"`) || strings.Contains(text, `<a name="`+anchor+`"`) {
		return true
	}
	for line := range strings.Lines(withoutBlocks(text)) {
		if strings.HasPrefix(line, "#") && anchorOf(strings.TrimLeft(line, "#")) == anchor {
			return true
		}
	}
	return false
}

func anchorOf(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(heading))
}
