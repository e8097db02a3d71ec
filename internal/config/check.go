package config

import (
	"bytes"
	"iter"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/lhspn/lhspn/internal/inline"
)

// resolve reads the secrets that are in files and takes paths from the configuration's directory.
func (l *loader) resolve(c *Config, dir string) {
	l.resolveIn(c, settingsOf(c), "", dir)
	if path, is := strings.CutPrefix(c.Database, "sqlite:"); is && path != "" && dir != "" {
		c.Database = "sqlite:" + inDir(dir, path)
	}
}

func (l *loader) resolveIn(c *Config, group setting, path, dir string) {
	for name, m := range group.members() {
		at := join(path, name)
		switch {
		case m.isGroup():
			l.resolveIn(c, m, at, dir)
		case m.isList() && m.element().isGroup():
			for i := range m.len() {
				l.resolveIn(c, m.at(i), at+"["+strconv.Itoa(i)+"]", dir)
			}
		case m.file:
			file, ok := strings.CutPrefix(m.value.String(), secretFile)
			if !ok {
				continue
			}
			m.value.SetString(secretFile + inDir(dir, file))
			if m.tag.Get("secret") == "late" {
				continue
			}
			c.secretFiles = append(c.secretFiles, inDir(dir, file))
			text, err := ReadSecret(m.value.String())
			if err != nil {
				l.fault(at, "%v", err)
			}
			m.value.SetString(text)
		case m.tag.Get("file") != "" && m.value.String() != "":
			m.value.SetString(inDir(dir, m.value.String()))
		}
	}
}

// ReadSecret is a secret of the configuration that is read when it is used: its value, or what is in its file, without
// the end of its last line.
func ReadSecret(value string) (string, error) {
	file, is := strings.CutPrefix(value, secretFile)
	if !is {
		return value, nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // the configuration names it
	return string(bytes.TrimRight(text, "\r\n")), err
}

func inDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// required looks for settings that must be given. An app's keys need not: an app that is only sent to from elsewhere
// has none.
func (l *loader) required(group setting, path string) {
	for name, m := range group.members() {
		at := join(path, name)
		switch {
		case m.file:
		case m.isGroup() && m.tag.Get("optional") != "" && !l.given(at):
		case m.isGroup():
			l.required(m, at)
		case m.isList() && m.element().isGroup():
			if m.len() == 0 && m.tag.Get("required") != "" {
				l.fault(at, "is missing")
			}
			for i := range m.len() {
				l.required(m.at(i), at+"["+strconv.Itoa(i)+"]")
			}
		case m.tag.Get("required") != "" && m.value.IsZero():
			l.fault(at, "is missing")
		}
	}
}

// given reports whether the group, or a setting of it, is set anywhere. It is asked when all settings are read.
func (l *loader) given(group string) bool {
	if l.groups == nil {
		l.groups = map[string]bool{}
		for at := range l.where {
			for ; at != "" && !l.groups[at]; at = parent(at) {
				l.groups[at] = true
			}
		}
	}
	return l.groups[group]
}

// sameListener reports whether nothing could listen at both addresses. Port 0 is another one each time.
func sameListener(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	everywhere := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
	return hostA == hostB || everywhere(hostA) || everywhere(hostB)
}

// check looks at what must fit together.
func (l *loader) check(c *Config) {
	l.required(settingsOf(c), "")
	l.address("listen", c.Listen)
	l.address("ops_listen", c.OpsListen)
	if sameListener(c.Listen, c.OpsListen) {
		l.fault("ops_listen", "must differ from listen: the operators' endpoints ask for no key")
	}
	if (c.TLSCertificateFile == "") != (c.TLSKeyFile == "") {
		l.fault("tls_key_file", "goes with tls_certificate_file: set both or none")
	}
	for i, proxy := range c.API.TrustedProxies {
		if _, err := netip.ParsePrefix(proxy); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(proxy); err != nil {
			l.fault("api.trusted_proxies["+strconv.Itoa(i)+"]", "must be an address or a network, like 10.0.0.0/8, not %q",
				proxy)
		}
	}
	if c.Database != "" && !strings.HasPrefix(c.Database, "mysql://") && !strings.HasPrefix(c.Database, "sqlite:") {
		l.fault("database", "must begin with mysql:// or sqlite:")
	}
	l.collector("tracing.endpoint", c.Tracing.Endpoint)
	if len(c.Apps) == 0 && len(c.OperatorKeys) == 0 {
		l.fault("apps", "is missing")
	}
	l.origins("webhooks.allowed_origins", c.Webhooks.AllowedOrigins, []string{"http", "https"},
		"https://hooks.example.com or http://10.0.0.5:8080")
	names := map[string]int{}
	for i := range c.Apps {
		app := &c.Apps[i]
		at := "apps[" + strconv.Itoa(i) + "]"
		if first, twice := names[app.Name]; twice && app.Name != "" {
			l.fault(at+".name", "is already the name of apps[%d]", first)
		}
		names[app.Name] = i
		l.app(at, app)
		if !c.Dev || i > 0 { // dev mode's own app is pointed at the simulator afterwards
			l.platforms(at, app)
		}
		for _, f := range c.Webhooks.Check(app) {
			l.fault(at+"."+f.Setting, "%s", f.Message)
		}
	}
	l.keys(c)
	now := l.masterKey("master_key", c.MasterKey)
	before := l.masterKey("master_key_previous", c.MasterKeyPrevious)
	if now != nil && bytes.Equal(now, before) {
		l.fault("master_key_previous", "is master_key itself: it is the one before")
	}
	if c.MasterKeyPrevious != "" && c.MasterKey == "" {
		l.fault("master_key_previous", "goes with master_key, which is not set")
	}
}

// masterKey is the key that the text is; nil for none, or for one that is no key.
func (l *loader) masterKey(setting, text string) []byte {
	if text == "" {
		return nil
	}
	key, err := ParseMasterKey(text)
	switch {
	case err != nil:
		l.fault(setting, "%v", err)
	case isGuessed(string(key)), isGuessed(text):
		l.fault(setting, "is one that anybody would guess: make one with server keygen --master")
	}
	return key
}

// keys looks for keys that everybody knows, and for those that are given twice.
func (l *loader) keys(c *Config) {
	known := map[Hash]string{}
	for at, hash := range hashes(c) {
		if IsDevKey(hash) && !c.Dev {
			l.fault(at, "is the key of dev mode, which everybody knows: make one with server keygen")
		}
		if first, twice := known[hash]; twice && hash != (Hash{}) {
			l.fault(at, "is already that of %s: a key belongs to one app, or to an operator", first)
		}
		known[hash] = strings.TrimSuffix(at, ".sha256")
	}
}

// hashes are those of all keys, with where they are set.
func hashes(c *Config) iter.Seq2[string, Hash] {
	return func(yield func(at string, hash Hash) bool) {
		for i := range c.Apps {
			for j, key := range c.Apps[i].Keys {
				if !yield("apps["+strconv.Itoa(i)+"].keys["+strconv.Itoa(j)+"].sha256", key.SHA256) {
					return
				}
			}
		}
		for i, key := range c.OperatorKeys {
			if !yield("operator_keys["+strconv.Itoa(i)+"].sha256", key.SHA256) {
				return
			}
		}
	}
}

var (
	appName = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)
	appleID = regexp.MustCompile(`^[A-Z0-9]{10}$`)
	topic   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,200}$`)
)

// collector must be the URL of a collector of spans, or empty.
func (l *loader) collector(at, address string) {
	if address == "" {
		return
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		l.fault(at, "must be a URL like http://127.0.0.1:4318")
	}
}

// appleSuffix is of Apple's own hosts.
const appleSuffix = ".apple.com"

// address must be host:port.
func (l *loader) address(at, address string) {
	if scheme, rest, is := strings.Cut(address, "://"); is {
		host, _, _ := strings.Cut(rest, "/")
		if _, _, err := net.SplitHostPort(host); err != nil {
			host += ":" + map[string]string{"http": "80"}[scheme]
			if scheme != "http" {
				host += "443"
			}
		}
		l.fault(at, "must be host:port, without %s:// and without a path: %s", scheme, host)
		return
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		l.fault(at, "must be host:port, not %q", address)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		l.fault(at, "must have a port from 0 to 65535, not %q", port)
	}
}

// At is what is wrong with a setting, with where it is set: for those who know more of it than this package.
func (c *Config) At(setting string, wrong error) error {
	l := &loader{name: c.name, where: c.where, wrong: map[string]bool{}}
	l.fault(setting, "%v", wrong)
	return l.faults
}

// Check looks for the files that the configuration names and says which cannot be read. What is in them is for those
// who use them to judge.
func Check(c *Config) Faults {
	l := &loader{name: c.name, where: c.where, wrong: map[string]bool{}}
	l.files(settingsOf(c), "")
	return l.sorted()
}

// CheckKeys is CheckKey of all keys.
func CheckKeys(c *Config) Faults {
	l := &loader{name: c.name, where: c.where, wrong: map[string]bool{}}
	for at, hash := range hashes(c) {
		if wrong := CheckKey(hash); wrong != "" {
			l.fault(at, "%s", wrong)
		}
	}
	return l.sorted()
}

func (l *loader) files(group setting, path string) {
	for name, m := range group.members() {
		at := join(path, name)
		switch {
		case m.file:
			if _, err := ReadSecret(m.value.String()); err != nil {
				l.fault(at, "%v", err)
			}
		case m.isGroup():
			l.files(m, at)
		case m.isList() && m.element().isGroup():
			for i := range m.len() {
				l.files(m.at(i), at+"["+strconv.Itoa(i)+"]")
			}
		case m.tag.Get("file") != "" && m.value.String() != "" && !inline.Is(m.value.String()):
			f, err := os.Open(m.value.String())
			if err != nil {
				l.fault(at, "%v", err)
				continue
			}
			_ = f.Close()
		}
	}
}

// loopback lets nobody but this machine at dev mode, whose key everybody knows.
func (l *loader) loopback(at, address string) {
	before := len(l.faults)
	l.address(at, address)
	if len(l.faults) > before {
		return
	}
	host, _, _ := net.SplitHostPort(address)
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		l.fault(at, "dev mode listens on loopback only, not on %q, because everybody knows its key: write a configuration "+
			"for more",
			address)
	}
}
