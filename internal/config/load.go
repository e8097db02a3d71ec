package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Fault is one thing that is wrong with the configuration.
type Fault struct {
	// Place is file:line, or the environment variable.
	Place string
	// Setting is as apps[0].apns.key_id; empty where the file as a whole is meant.
	Setting string
	Message string
}

func (f Fault) String() string {
	parts := make([]string, 0, 3)
	for _, part := range []string{f.Place, f.Setting, f.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// Faults is everything that is wrong with a configuration, in the file's order.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// place is where a setting is given: a line of the file, or a variable.
type place struct {
	line     int
	variable string
}

// origins are the places of the settings that are given.
type origins map[string]place

// Load reads the file at path, which may be empty for none, and environ, as os.Environ has it, and checks all that can
// be checked without opening what they name. The error is Faults, unless the file cannot be read. Paths are taken from
// the file's directory.
func Load(path string, environ []string) (*Config, error) {
	var text []byte
	if path != "" {
		var err error
		if text, err = os.ReadFile(path); err != nil { //nolint:gosec // it is the operator's own
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
	}
	c, faults := parse(path, text, environ)
	if len(faults) > 0 {
		return nil, faults
	}
	return c, nil
}

// loader gathers what is wrong on the way.
type loader struct {
	name   string
	where  origins
	faults Faults
	// atLine has each fault's line, to sort by.
	atLine []int
	// wrong are the settings with a fault. What would follow from it, as that it is missing, is not said again.
	wrong map[string]bool
	// groups are the settings of where, and the groups that they are in; see given.
	groups map[string]bool
	// texts says that files are given as base64 text in settings without the _file; see ParseApp.
	texts bool
	// typed says that values must be of their settings' JSON types; see ParseGivenApp.
	typed bool
}

func parse(path string, text []byte, environ []string) (*Config, Faults) {
	c, l := newLoader(path)
	l.file(c, text)
	l.environment(c, environ)
	l.resolve(c, filepath.Dir(path))
	l.check(c)
	return c, l.sorted()
}

// newLoader starts with the defaults.
func newLoader(path string) (*Config, *loader) {
	l := &loader{name: path, where: origins{}, wrong: map[string]bool{}}
	c := &Config{name: path, where: l.where}
	setDefaults(c)
	return c, l
}

// fault notes what is wrong with a setting, at its own place, or at that of what it would belong to.
func (l *loader) fault(setting, format string, args ...any) {
	for at := setting; ; at = parent(at) {
		if l.wrong[at] {
			return
		}
		if at == "" {
			break
		}
	}
	for at := setting; ; at = parent(at) {
		if p, ok := l.where[at]; ok || at == "" {
			l.faultAt(p, setting, format, args...)
			return
		}
	}
}

func (l *loader) faultAt(p place, setting, format string, args ...any) {
	l.wrong[strings.TrimSuffix(setting, fileSuffix)] = true // a secret's file is given in place of the secret
	l.wrong[setting] = true
	if setting == p.variable { // the variable is no setting's
		setting = ""
	}
	text := p.variable
	if text == "" && l.name != "" {
		text = l.name
		if p.line > 0 {
			text += ":" + strconv.Itoa(p.line)
		}
	}
	l.faults = append(l.faults, Fault{text, setting, fmt.Sprintf(format, args...)})
	l.atLine = append(l.atLine, p.line)
}

func (l *loader) sorted() Faults {
	order := make([]int, len(l.faults))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return l.atLine[a] - l.atLine[b] })
	faults := make(Faults, len(order))
	for i, at := range order {
		faults[i] = l.faults[at]
	}
	return faults
}

// parent is what a setting belongs to: a.b[1].c, a.b[1], a.b, a and then nothing.
func parent(setting string) string {
	return setting[:max(strings.LastIndexAny(setting, ".["), 0)]
}

// file reads the YAML.
func (l *loader) file(c *Config, text []byte) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) { // empty
		return
	}
	if err != nil {
		l.syntax(err)
		return
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		l.faultAt(place{}, "", "there must be one YAML document, and nothing after it")
		return
	}
	l.node(settingsOf(c), "", doc.Content[0])
}

// syntax turns yaml's "yaml: line 5: ..." into a fault of that line.
func (l *loader) syntax(err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		if number, after, ok := strings.Cut(rest, ": "); ok {
			line, _ = strconv.Atoi(number)
			message = after
		}
	}
	if strings.HasPrefix(message, "unknown anchor") { // it would repeat a secret that begins with a star
		message = "a value that begins with * must be in quotes"
	}
	l.faultAt(place{line: line}, "", "not YAML: %s", message)
}

// node reads one node into the setting at path.
func (l *loader) node(s setting, path string, n *yaml.Node) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if path != "" {
		l.where[path] = place{line: n.Line}
	}
	null := n.Kind == yaml.ScalarNode && n.Tag == "!!null"
	switch {
	case s.isGroup():
		if null { // a name with nothing under it
			return
		}
		if n.Kind != yaml.MappingNode {
			l.fault(path, "must be a group of settings")
			return
		}
		l.mapping(s, path, n)
	case s.isList():
		if null {
			return
		}
		if n.Kind != yaml.SequenceNode {
			l.fault(path, "must be a list")
			return
		}
		s.clear()
		for i, element := range n.Content {
			l.node(s.grow(), path+"["+strconv.Itoa(i)+"]", element)
		}
	case n.Kind != yaml.ScalarNode:
		l.fault(path, "must be a single value")
	case null:
		l.fault(path, "has no value")
	default:
		err := s.set(n.Value)
		if err == nil && l.typed {
			err = checkType(s, n.Tag)
		}
		if err != nil {
			l.fault(path, "%v", err)
		}
	}
}

func (l *loader) mapping(s setting, path string, n *yaml.Node) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := join(path, key.Value)
		if first, twice := seen[key.Value]; twice {
			l.faultAt(place{line: key.Line}, name, "is a duplicate: it is set in line %d already", first)
			continue
		}
		seen[key.Value] = key.Line
		member, ok := s.member(key.Value)
		if l.texts {
			if file, is := s.member(key.Value + fileSuffix); is && file.tag.Get("file") != "" {
				l.text(file, name, value)
				continue
			}
			if ok && strings.HasSuffix(key.Value, fileSuffix) {
				as := "" // text is taken as it is
				if member.tag.Get("file") != "" {
					as = ", in base64"
				}
				l.faultAt(place{}, name, "is a path, for the configuration file: give %s, what is in the file%s",
					strings.TrimSuffix(key.Value, fileSuffix), as)
				continue
			}
		}
		if !ok {
			l.faultAt(place{line: key.Line}, name, "is not a setting%s", s.suggest(path, key.Value))
			continue
		}
		l.node(member, name, value)
		if l.where[name].line != key.Line { // a value in a line of its own: the name's is the better place
			l.where[name] = place{line: key.Line}
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

const prefix = "LHSPN_"

// notOurs are variables with our prefix that others set: Kubernetes for services that are called lhspn or
// lhspn-something, and our own tests.
var notOurs = regexp.MustCompile(`^LHSPN_(?:SERVICE_|PORT|TEST|BENCH_|CHAOS_|KEY_SHA256)|` +
	`^LHSPN_[A-Z0-9_]+_(?:SERVICE_HOST=|SERVICE_PORT(?:_[A-Z0-9_]+)?=|PORT=(?:tcp|udp|sctp)://|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_PROTO|_PORT|_ADDR)?=)`)

// environment lets each setting be overridden: LHSPN_ and its path in capitals, _ between the parts, list elements by
// number from 0. A number that is the list's length adds an element. Lists of plain values have commas.
func (l *loader) environment(c *Config, environ []string) {
	vars := make([]string, 0, 8)
	for _, entry := range environ {
		if strings.HasPrefix(entry, prefix) && !notOurs.MatchString(entry) {
			vars = append(vars, entry)
		}
	}
	slices.SortFunc(vars, compareVariables) // so that a list grows in order
	for _, entry := range vars {
		name, value, _ := strings.Cut(entry, "=")
		at := place{variable: name}
		s, path, err := find(settingsOf(c), "", strings.TrimPrefix(name, prefix))
		if err != nil {
			l.faultAt(at, name, "%v", err)
			continue
		}
		if secret := strings.TrimSuffix(path, fileSuffix); s.tag.Get("secret") != "" && l.where[secret].variable == "" &&
			l.where[secret+fileSuffix].variable == "" {
			s.value.SetString("") // what the file has gives way, be it the secret or the path of its file
			delete(l.where, secret)
			delete(l.where, secret+fileSuffix)
		}
		l.where[path] = at
		if s.isList() {
			s.clear()
			for _, element := range strings.Split(value, ",") {
				if element = strings.TrimSpace(element); element == "" {
					continue
				}
				if err := s.grow().set(element); err != nil {
					l.fault(path, "%v", err)
				}
			}
			continue
		}
		if err := s.set(value); err != nil {
			l.fault(path, "%v", err)
		}
	}
}

// compareVariables orders LHSPN_APPS_2 before LHSPN_APPS_10.
func compareVariables(a, b string) int {
	as, bs := strings.Split(a, "_"), strings.Split(b, "_")
	for i := range min(len(as), len(bs)) {
		an, aErr := strconv.Atoi(as[i])
		bn, bErr := strconv.Atoi(bs[i])
		if aErr == nil && bErr == nil && an != bn {
			return an - bn
		}
		if order := strings.Compare(as[i], bs[i]); order != 0 {
			return order
		}
	}
	return len(as) - len(bs)
}

var errNoSetting = errors.New("no setting is overridden by this variable: see docs/configuration.md")

// find takes a variable's name apart along the settings there are.
func find(s setting, path, name string) (setting, string, error) {
	switch {
	case name == "" && !s.isGroup() && (!s.isList() || !s.element().isGroup()):
		return s, path, nil
	case name == "":
		return s, path, errNoSetting
	case s.isList():
		index, rest, _ := strings.Cut(name, "_")
		i, err := strconv.Atoi(index)
		if err != nil || i < 0 || !s.element().isGroup() {
			return s, path, errNoSetting
		}
		if i > s.len() {
			return s, path, fmt.Errorf("%s has %d elements, so the next one is number %d", path, s.len(), s.len())
		}
		element := path + "[" + index + "]"
		if i == s.len() {
			return find(s.grow(), element, rest)
		}
		return find(s.at(i), element, rest)
	case s.isGroup():
		for member := range s.members() {
			upper := strings.ToUpper(member)
			if rest, ok := strings.CutPrefix(name, upper); ok && (rest == "" || rest[0] == '_') {
				m, _ := s.member(member)
				found, at, err := find(m, join(path, member), strings.TrimPrefix(rest, "_"))
				if err == nil || !errors.Is(err, errNoSetting) {
					return found, at, err
				}
			}
		}
	}
	return s, path, errNoSetting
}
