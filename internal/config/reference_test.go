package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

//go:generate go test -run ^TestReference$ -update

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const referencePath = "../../docs/configuration.md"

const example = "```yaml"

const introduction = `# Configuration

<!-- Made from the types in internal/config: change them and run "make docs". -->

One YAML file, given with ` + "`--config`" + `. ` + "`server check --config FILE`" + ` says what is wrong with it, and in which line, and connects to
nothing. A setting that is not in the tables below is refused, as is a wrong one. Paths are taken from the file's directory.

` + example + `
listen: 0.0.0.0:8080
ops_listen: 127.0.0.1:9090
database: mysql://lhspn:secret@tcp(127.0.0.1:3306)/lhspn   # or sqlite:./data/lhspn.db
apps:
  - name: hedgehog
    apns:
      topic: com.example.hedgehog
      key_file: AuthKey_ABC123DEFG.p8
      key_id: ABC123DEFG
      team_id: DEF123GHIJ
    fcm:
      service_account_file: firebase.json
    webpush:
      vapid_key_file: vapid.pem
      subject: "mailto:push@example.com"
    keys:
      - name: backend
        scope: send
        sha256: 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8
` + "```" + `

## Environment

Each setting can be overridden by a variable: ` + "`LHSPN_`" + ` and the setting's path in capitals, with ` + "`_`" + ` between its parts and
elements of lists by number, from 0: ` + "`LHSPN_DATABASE`, `LHSPN_FEEDBACK_INTERVAL`, `LHSPN_APPS_0_APNS_KEY_FILE`, `LHSPN_APPS_0_KEYS_1_SHA256`" + `.
The number that a list's length is adds an element, so that a configuration may consist of variables alone. Lists of plain
values have commas: ` + "`LHSPN_APPS_0_APNS_RETRY_STATUSES=1,10`" + `. A variable that begins with ` + "`LHSPN_`" + ` and means no setting is refused, but for
those that Kubernetes sets for services called lhspn or lhspn-something (` + "`LHSPN_SERVICE_HOST`, `LHSPN_MYSQL_PORT_3306_TCP`" + ` and the like)
and those of the project's own scripts (` + "`LHSPN_TEST...`, `LHSPN_BENCH_...`, `LHSPN_CHAOS_...`, `LHSPN_KEY_SHA256`" + `).

## Secrets

What is marked *secret* can be given as the path of a file instead, in the setting of the same name with ` + "`_file`" + ` behind it
(` + "`database_file: /run/secrets/database`, `LHSPN_DATABASE_FILE`" + `). The end of its last line does not count. A variable of either form
overrides what the file has in either.

Times are written with their unit: ` + "`500ms`, `10s`, `5m`, `24h`" + `.
`

func reference() string {
	var b strings.Builder
	b.WriteString(introduction)
	c := &Config{}
	writeGroup(&b, "", "Settings", "", settingsOf(c))
	return b.String()
}

func writeGroup(b *strings.Builder, path, title, about string, group setting) {
	fmt.Fprintf(b, "\n## %s\n\n", title)
	if about != "" {
		fmt.Fprintf(b, "%s\n\n", about)
	}
	b.WriteString("| setting | default | meaning |\n|---|---|---|\n")
	type sub struct {
		path, title, about string
		group              setting
	}
	var subs []sub
	for name, m := range group.members() {
		at := join(path, name)
		doc := m.tag.Get("doc")
		switch {
		case m.file:
		case m.isGroup():
			subs = append(subs, sub{at, "`" + at + "`", doc, m})
		case m.isList() && m.element().isGroup():
			subs = append(subs, sub{at + "[]", "`" + at + "[]`", doc, m.element()})
		default:
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, defaultOf(m), meaning(m))
		}
	}
	for _, s := range subs {
		writeGroup(b, s.path, s.title, s.about, s.group)
	}
}

func defaultOf(m setting) string {
	switch text, has := m.tag.Lookup("default"); {
	case m.tag.Get("required") != "":
		return "required"
	case has && m.isList():
		return "`[" + strings.ReplaceAll(text, ",", ", ") + "]`"
	case has:
		return "`" + text + "`"
	default:
		return ""
	}
}

func meaning(m setting) string {
	text := strings.ReplaceAll(m.tag.Get("doc"), "|", `\|`)
	if enum := m.tag.Get("enum"); enum != "" {
		text += " One of `" + strings.ReplaceAll(enum, ",", "`, `") + "`."
	}
	if least := m.tag.Get("min"); least != "" {
		text += fmt.Sprintf(" From %s to %s.", least, m.tag.Get("max"))
	}
	if m.tag.Get("secret") != "" {
		text += " *Secret.*"
	}
	return text
}

func TestReference(t *testing.T) {
	t.Parallel()
	want := reference()
	if *update {
		if err := os.WriteFile(referencePath, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/configuration.md is not what the types say; run make docs:\n%s", diff)
	}
}

func TestReferenceExampleLoads(t *testing.T) {
	t.Parallel()
	_, text, _ := strings.Cut(introduction, example)
	text, _, _ = strings.Cut(text, "```")
	if _, err := Load(write(t, "lhspn.yaml", text), nil); err != nil {
		t.Error(err)
	}
}

// TestEverySetting checks that each has what the reference and the reader need of it, and that its variable finds it.
func TestEverySetting(t *testing.T) {
	t.Parallel()
	c := &Config{}
	n := 0
	var walk func(group setting, path, variable string)
	walk = func(group setting, path, variable string) {
		for name, m := range group.members() {
			at, env := join(path, name), variable+"_"+strings.ToUpper(name)
			if m.tag.Get("doc") == "" {
				t.Errorf("%s has no doc", at)
			}
			switch {
			case m.isGroup():
				walk(m, at, env)
			case m.isList() && m.element().isGroup():
				walk(m.element(), at+"[0]", env+"_0")
			default:
				n++
				s, found, err := find(settingsOf(c), "", strings.TrimPrefix(env, "_"))
				if err != nil || found != at || s.file != m.file {
					t.Errorf("%s finds %q: %v", env, found, err)
				}
				if _, ranged := m.tag.Lookup("min"); ranged {
					element := m
					if m.isList() {
						element = m.element()
					}
					for _, end := range []string{"min", "max"} {
						if err := element.set(m.tag.Get(end)); err != nil {
							t.Errorf("%s: its own %s %v", at, end, err)
						}
					}
				}
			}
		}
	}
	walk(settingsOf(&Config{}), "", "")
	if n < 40 {
		t.Errorf("only %d settings", n)
	}
}
