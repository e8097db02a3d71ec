package webpush

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// service is which push service an origin belongs to, as far as we know their ways. It is a closed enum: a metric's
// label.
type service uint8

const (
	serviceOther service = iota
	serviceGoogle
	serviceMozilla
	serviceApple
	serviceMicrosoft
)

var serviceNames = [...]string{
	serviceOther: "other", serviceGoogle: "google", serviceMozilla: "mozilla", serviceApple: "apple",
	serviceMicrosoft: "microsoft",
}

// String is the name used in metrics and logs.
func (s service) String() string { return serviceNames[s] }

// knownServices are the hosts of the browsers' own push services. One that begins with a dot stands for every name
// below it.
var knownServices = [...]struct {
	host    string
	service service
}{
	// Chrome, Edge on Android, Opera, Samsung, Brave. Other names below googleapis.com take requests that anybody can
	// make up, and answer as whoever owns what is there wants.
	{"fcm.googleapis.com", serviceGoogle},
	{"android.googleapis.com", serviceGoogle},      // subscriptions of Chrome's before 2016
	{"jmt17.google.com", serviceGoogle},            // Chromium without Google's keys
	{".push.services.mozilla.com", serviceMozilla}, // updates.push.services.mozilla.com: Firefox
	{".push.apple.com", serviceApple},              // web.push.apple.com: Safari
	{".notify.windows.com", serviceMicrosoft},      // wns2-*.notify.windows.com: Edge on Windows
}

// origin is where requests go to: scheme https, a host, a port.
type origin struct {
	host string // lower-case name, or an IP address where the operator named it so
	port uint16
	// named: the operator named exactly this origin, which may therefore be at an address that others may not be at.
	named   bool
	service service
}

// String is the origin as RFC 6454 writes it, which is what a VAPID token's aud claim has: without the port where it is
// 443.
func (o origin) String() string {
	host := o.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if o.port == 443 {
		return "https://" + host
	}
	return "https://" + host + ":" + strconv.Itoa(int(o.port))
}

// authority is the origin without its scheme.
func (o origin) authority() string { return strings.TrimPrefix(o.String(), "https://") }

// address is what is dialled.
func (o origin) address() string { return net.JoinHostPort(o.host, strconv.Itoa(int(o.port))) }

// Origins are the places that subscriptions may be at: the browsers' own push services and what the operator allows.
type Origins struct {
	named   map[string]bool // by origin.String
	domains []string        // ".example.com"
	any     bool
}

// ParseOrigins reads the setting allowed_origins. Each entry is an origin, `https://push.example.com:8443`, that may
// also be at a private address; `https://*.example.com` for the public hosts below a name; or `*` for every public
// host. The error says which entry is wrong.
func ParseOrigins(allowed []string) (*Origins, error) {
	o := &Origins{named: map[string]bool{}}
	for i, entry := range allowed {
		if err := o.allow(entry); err != nil {
			return nil, fmt.Errorf("allowed_origins[%d]: %w", i, err)
		}
	}
	return o, nil
}

func (o *Origins) allow(entry string) error {
	if entry == "*" {
		o.any = true
		return nil
	}
	const example = "an origin is https://push.example.com, https://push.example.com:8443 or https://*.example.com"
	if domain, ok := strings.CutPrefix(entry, "https://*."); ok {
		if err := checkHostName(domain); err != nil {
			return fmt.Errorf("%w; %s", err, example)
		}
		o.domains = append(o.domains, "."+strings.ToLower(domain))
		return nil
	}
	authority, path, err := splitEndpoint(entry)
	if err != nil {
		return fmt.Errorf("%w; %s", err, example)
	}
	if path != "" && path != "/" {
		return errors.New("must have no path: " + example)
	}
	named, err := parseAuthority(authority)
	if err != nil {
		return fmt.Errorf("%w; %s", err, example)
	}
	o.named[named.String()] = true
	return nil
}

// errNotAllowed is the fault of an endpoint at an origin that is none of these.
var errNotAllowed = errors.New("is at none of the known push services: allowed_origins can name its origin")

// find is the origin of an endpoint, and the path that a request to it has.
func (o *Origins) find(endpoint string) (at origin, path string, err error) {
	authority, path, err := splitEndpoint(endpoint)
	if err != nil {
		return origin{}, "", err
	}
	if at, err = parseAuthority(authority); err != nil {
		return origin{}, "", err
	}
	switch at.service = serviceOf(at.host); {
	case o.named[at.String()]:
		at.named = true
	case isAddress(at.host):
		return origin{}, "", errors.New("must have a host name, not an IP address")
	case at.port != 443:
		return origin{}, "", errors.New("must have no port other than 443, but for an origin that allowed_origins names")
	case at.service != serviceOther, o.any, o.below(at.host):
	default:
		return origin{}, "", errNotAllowed
	}
	if path == "" || path[0] == '?' {
		path = "/" + path
	}
	return at, path, nil
}

func (o *Origins) below(host string) bool {
	for _, domain := range o.domains {
		if strings.HasSuffix(host, domain) {
			return true
		}
	}
	return false
}

func serviceOf(host string) service {
	for i := range knownServices {
		known := &knownServices[i]
		if host == known.host || known.host[0] == '.' && strings.HasSuffix(host, known.host) {
			return known.service
		}
	}
	return serviceOther
}

// splitEndpoint cuts an https URL into its authority and what follows, which stays as it is: an endpoint is opaque.
// What readers of URLs disagree about is refused, for another one reads it when the request is sent.
func splitEndpoint[T string | []byte](endpoint T) (authority, path T, err error) {
	const scheme = "https://"
	if len(endpoint) < len(scheme) || string(endpoint[:len(scheme)]) != scheme {
		return authority, path, errors.New("must begin with https://")
	}
	rest := endpoint[len(scheme):]
	end := len(rest)
	for i := range len(rest) {
		switch c := rest[i]; {
		case c <= ' ' || c > '~' || c == '\\' || c == '"' || c == '<' || c == '>':
			return authority, path, errors.New("must be a URL in printable ASCII: international names and paths are in it as " +
				"xn-- and %")
		case c == '#':
			return authority, path, errors.New("must have no fragment")
		case (c == '/' || c == '?') && end == len(rest):
			end = i
		}
	}
	return rest[:end], rest[end:], nil
}

// parseAuthority reads host and port. An IP address as the host is the caller's to refuse.
func parseAuthority(authority string) (origin, error) {
	if strings.Contains(authority, "@") {
		return origin{}, errors.New("must have no user or password")
	}
	host, port := authority, ""
	if end := strings.LastIndexByte(authority, ':'); end > strings.LastIndexByte(authority, ']') {
		host, port = authority[:end], authority[end+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '+' {
			return origin{}, errors.New("must have a port from 1 to 65535, or none")
		}
	}
	at := origin{host: strings.ToLower(host), port: 443}
	if port != "" {
		n, _ := strconv.ParseUint(port, 10, 16)
		at.port = uint16(n)
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || ip.Zone() != "" || !ip.Is6() || !strings.HasSuffix(inner, "]") {
			return origin{}, errors.New("must have a host name")
		}
		at.host = ip.String()
		return at, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		at.host = ip.String()
		return at, nil
	}
	return at, checkHostName(host)
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// checkHostName takes names of letters, digits and hyphens, the last label of which is no number: 2130706433, 0x7f.1
// and 0177.0.0.1 are addresses to many resolvers. A trailing dot is refused, for the name is another one with it in
// certificates, in origins and in what is allowed.
func checkHostName(name string) error {
	fault := errors.New("must have a host name of letters, digits, hyphens and dots")
	if name == "" || len(name) > 253 {
		return fault
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fault
		}
		for i := 0; i < len(label); i++ {
			if c := label[i] | 0x20; (c < 'a' || c > 'z') && (label[i] < '0' || label[i] > '9') && label[i] != '-' &&
				label[i] != '_' {
				return fault
			}
		}
		last = strings.ToLower(label)
	}
	if last[0] >= '0' && last[0] <= '9' {
		return errors.New("must have a host name, not an IP address")
	}
	return nil
}
