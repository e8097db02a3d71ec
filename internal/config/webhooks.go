package config

import (
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/lhspn/lhspn/internal/netguard"
	"github.com/lhspn/lhspn/internal/push"
)

// Webhooks is what holds for the webhooks of all apps.
type Webhooks struct {
	AllowedOrigins []string `yaml:"allowed_origins" doc:"Receivers that may be at a private address, or be reached over plain http: http://hooks.internal:8080, https://10.0.0.5. All others must be https, and at a public address when they are dialled."`
	CAFile         string   `yaml:"ca_file" file:"true" doc:"PEM file of the authorities that the certificates of allowed_origins may be of, beside the system's."`
}

// Webhook is one receiver of an app's events.
type Webhook struct {
	URL            string   `yaml:"url" required:"true" doc:"Where the app's events are posted to: https, or what webhooks.allowed_origins allows. A webhook is known by its URL: another one begins with what happens from then on."`
	Secret         string   `yaml:"secret" required:"true" secret:"true" doc:"What the requests are signed with, by the Standard Webhooks specification: whsec_ and the base64 of 24 to 64 random bytes, as server keygen --webhook prints it."`
	PreviousSecret string   `yaml:"previous_secret" secret:"true" doc:"A second secret that every request is also signed with, while the receiver changes from it to secret."`
	Types          []string `yaml:"types" doc:"The types of event that are posted, as deliveries.failed. Left out: all."`
	InFlight       int      `yaml:"in_flight" default:"1" min:"1" max:"16" doc:"Events that may be on their way at once. With 1 they come in the order of the feed; with more only those of one notification, or of one device token, come in order."`
}

const (
	maxWebhooks   = 10
	maxWebhookURL = 2048
)

// What a secret decodes to, in bytes: the specification's bounds.
const (
	minWebhookSecret = 24
	maxWebhookSecret = 64
)

const webhookSecretPrefix = "whsec_"

// ParseWebhookSecret reads a webhook's secret: whsec_ and the base64 of 24 to 64 bytes.
func ParseWebhookSecret(text string) ([]byte, error) {
	encoded, is := strings.CutPrefix(text, webhookSecretPrefix)
	secret, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !is || err != nil || len(secret) < minWebhookSecret || len(secret) > maxWebhookSecret {
		return nil, errors.New("must be whsec_ and the base64 of 24 to 64 random bytes, as server keygen --webhook prints it")
	}
	if isGuessed(string(secret)) {
		return nil, errors.New("is one that anybody would guess: server keygen --webhook makes one")
	}
	return secret, nil
}

// Secrets are those that each request is signed with.
func (w *Webhook) Secrets() []string {
	if w.PreviousSecret == "" {
		return []string{w.Secret}
	}
	return []string{w.Secret, w.PreviousSecret}
}

// Allows reports whether the URL is of an origin that may be private and plain.
func (w *Webhooks) Allows(address string) bool {
	origin := originOf(address)
	return origin != "" && slices.ContainsFunc(w.AllowedOrigins, func(o string) bool { return originOf(o) == origin })
}

// Check is what is wrong with an app's webhooks for what is allowed of all.
func (w *Webhooks) Check(app *App) (faults Faults) {
	for i := range app.Webhooks {
		if message := w.refusal(app.Webhooks[i].URL); message != "" {
			faults = append(faults, Fault{Setting: "webhooks[" + strconv.Itoa(i) + "].url", Message: message})
		}
	}
	return faults
}

// refusal is why the URL is not allowed, empty where it is, or where that shows only when it is dialled.
func (w *Webhooks) refusal(address string) string {
	u, err := url.Parse(address)
	if err != nil || w.Allows(address) {
		return ""
	}
	if u.Scheme == "http" {
		return "must be https: plain http is only for origins of webhooks.allowed_origins in the configuration file"
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !netguard.Public(ip) {
		return "is at a private address: those are only for origins of webhooks.allowed_origins in the configuration file"
	}
	return ""
}

// originOf is the URL's origin as all that name it write it, empty where it has none.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// origins checks that the URLs are nothing but origins of one of the schemes.
func (l *loader) origins(at string, origins, schemes []string, examples string) {
	for i, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || !slices.Contains(schemes, u.Scheme) || u.Hostname() == "" || u.User != nil ||
			u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
			l.fault(at+"["+strconv.Itoa(i)+"]", "must be an origin, like %s", examples)
		}
	}
}

// webhooks checks an app's. What is wrong is told without the URL, whose path may be a secret.
func (l *loader) webhooks(at string, hooks []Webhook) {
	if len(hooks) > maxWebhooks {
		l.fault(at, "has %d webhooks, which is more than %d", len(hooks), maxWebhooks)
	}
	first := map[string]int{}
	for i := range hooks {
		hook, at := &hooks[i], at+"["+strconv.Itoa(i)+"]"
		l.webhookURL(at+".url", hook.URL)
		if earlier, twice := first[hook.URL]; twice && hook.URL != "" {
			l.fault(at+".url", "is that of webhooks[%d] too: each has a URL of its own", earlier)
		} else {
			first[hook.URL] = i
		}
		for name, secret := range map[string]string{".secret": hook.Secret, ".previous_secret": hook.PreviousSecret} {
			if _, err := ParseWebhookSecret(secret); secret != "" && err != nil {
				l.fault(at+name, "%v", err)
			}
		}
		if hook.Secret != "" && hook.Secret == hook.PreviousSecret {
			l.fault(at+".previous_secret", "is the same as secret")
		}
		for j, name := range hook.Types {
			if !slices.Contains(push.EventTypes(), push.EventType(name)) {
				l.fault(at+".types["+strconv.Itoa(j)+"]", "is no type of event: %q", name)
			}
		}
	}
}

func (l *loader) webhookURL(at, address string) {
	u, err := url.Parse(address)
	switch {
	case address == "": // it is missing, which is told
	case err != nil || originOf(address) == "" || len(address) > maxWebhookURL:
		l.fault(at, "must be a URL, like https://backend.example.com/webhooks/push, to %d characters", maxWebhookURL)
	case u.User != nil:
		l.fault(at, "must have no user and password: the signature proves who sends")
	case u.Fragment != "":
		l.fault(at, "must have no fragment (#)")
	}
}
