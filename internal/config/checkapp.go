package config

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

func (l *loader) app(at string, app *App) {
	if app.Name != "" && !appName.MatchString(app.Name) {
		l.fault(at+".name", "must have 1 to 64 of a-z, 0-9, - and _")
	}
	if app.APNs.Topic != "" && !topic.MatchString(app.APNs.Topic) {
		l.fault(at+".apns.topic", "must be a bundle id, like com.example.app")
	}
	l.webhooks(at+".webhooks", app.Webhooks)
	for i, prefix := range app.RegisterTags {
		if prefix == "" {
			l.fault(at+".register_tags["+strconv.Itoa(i)+"]", "must not be empty: every tag begins so")
		}
	}
	for i, key := range app.UserTokens.Keys {
		keyAt := at + ".user_tokens.keys[" + strconv.Itoa(i) + "]"
		switch {
		case (key.Secret == "") == (key.PublicKeyFile == ""):
			l.fault(keyAt, "must have either secret or public_key_file")
		case key.Secret != "" && len(key.Secret) < 32:
			l.fault(keyAt+".secret", "must have at least 32 bytes")
		case key.Secret != "" && isGuessed(key.Secret):
			l.fault(keyAt+".secret", "is one that anybody would guess: take 32 random bytes or more")
		}
	}
}

// platforms checks how the app reaches each platform that it has.
func (l *loader) platforms(at string, app *App) {
	if !l.given(at+".apns") && !l.given(at+".fcm") && !l.given(at+".webpush") {
		l.fault(at, "has none of apns, fcm and webpush: there is no way to send to it")
		return
	}
	if app.APNs.Given() {
		l.routes(at+".apns", &app.APNs)
	}
	if l.given(at + ".fcm") {
		l.fcm(at+".fcm", &app.FCM)
	}
	if app.WebPush.Given() {
		l.webPush(at+".webpush", &app.WebPush)
	}
}

func (l *loader) fcm(at string, f *FCM) {
	l.address(at+".gateway", f.Gateway)
	l.proxy(at+".proxy", f.Proxy)
	switch {
	case !f.OnMetadataServer():
		if f.ServiceAccountFile == "" && !l.wrong[at+".credentials"] {
			l.fault(at+".service_account_file", "is missing")
		}
	case f.ServiceAccountFile != "":
		l.fault(at+".service_account_file", "must be left out where credentials is metadata_server")
	case f.TokenURL != "":
		l.fault(at+".token_url", "must be left out where credentials is metadata_server")
	case f.ProjectID == "":
		l.fault(at+".project_id", "is missing: the metadata server does not know the Firebase project")
	}
	if f.TokenURL == "" {
		return
	}
	if u, err := url.Parse(f.TokenURL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		l.fault(at+".token_url", "must be an https URL")
	}
}

func (l *loader) webPush(at string, w *WebPush) {
	if u, err := url.Parse(w.Subject); w.Subject != "" && (err != nil || u.Scheme != "mailto" &&
		(u.Scheme != "https" || u.Host == "") ||
		u.Scheme == "mailto" && !strings.Contains(u.Opaque, "@")) {
		l.fault(at+".subject", "must be mailto: and an address, like mailto:push@example.com, or an https URL")
	}
	l.origins(at+".allowed_origins", w.AllowedOrigins, []string{"https"},
		"https://push.example.com or https://push.example.com:8443")
}

// proxy must be the URL of an HTTP proxy, or empty.
func (l *loader) proxy(at, address string) {
	if address == "" {
		return
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		l.fault(at, "must be a URL like http://user:password@host:port")
	}
}

func isApple(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && strings.HasSuffix(strings.TrimSuffix(strings.ToLower(host), "."), appleSuffix)
}

// routes checks both environments where they differ, and the common settings once where they do not.
func (l *loader) routes(at string, a *APNs) {
	if a.Production == (APNsRoute{}) && a.Sandbox == (APNsRoute{}) {
		l.apns(at, a)
		return
	}
	for _, route := range a.Routes() {
		of := a.Of(route)
		l.apns(at+"."+string(route), &of)
	}
}

// binaryOnly are settings that have defaults, but mean something with the binary transport alone.
var binaryOnly = []string{"retry_statuses", "window", "confirm_after", "end_after", "idle_close"}

func (l *loader) apns(at string, a *APNs) {
	binary := a.Transport == "binary"
	if a.Gateway != "" {
		l.address(at+".gateway", a.Gateway)
	}
	if a.FeedbackAddress != "" {
		l.address(at+".feedback_address", a.FeedbackAddress)
	}
	if binary {
		const closed = "Apple closed the binary protocol's gateway and feedback service on 31 March 2021"
		if a.Gateway == "" {
			l.fault(at+".transport", "%s: binary needs the gateway of somebody else; with Apple use http2", closed)
		} else if isApple(a.Gateway) {
			l.fault(at+".gateway", "%s: use transport http2 without a gateway", closed)
		}
		if isApple(a.FeedbackAddress) {
			l.fault(at+".feedback_address", "%s", closed)
		}
	} else {
		if a.FeedbackAddress != "" {
			l.fault(at+".feedback_address",
				"goes with transport binary only: over HTTP/2 the answers themselves say which tokens are dead")
		}
		for _, name := range binaryOnly {
			if _, given := l.where[at+"."+name]; given {
				l.fault(at+"."+name, "goes with transport binary only")
			}
		}
	}
	l.credentials(at, a, binary)
	if binary && a.Proxy != "" {
		l.fault(at+".proxy", "goes with transport http2 only")
		return
	}
	l.proxy(at+".proxy", a.Proxy)
}

func (l *loader) credentials(at string, a *APNs, binary bool) {
	key := a.KeyFile != "" || a.KeyID != "" || a.TeamID != ""
	switch {
	case binary && key:
		l.fault(at+".key_file", "goes with transport http2 only: the binary protocol takes a client certificate")
	case key && a.CertificateFile != "":
		l.fault(at+".certificate_file", "is set, and so is key_file, key_id or team_id: set either a key or a certificate")
	case binary && a.CertificateFile == "":
		l.fault(at+".certificate_file", "is missing: the binary protocol takes a client certificate")
	case key:
		if a.KeyFile == "" {
			l.fault(at+".key_file", "is missing: key_id and team_id are of a key")
		}
		l.appleID(at+".key_id", a.KeyID)
		l.appleID(at+".team_id", a.TeamID)
	case a.CertificateFile == "":
		l.fault(at+".key_file", "is missing: APNs takes a key (key_file, key_id, team_id) or a client certificate "+
			"(certificate_file)")
	}
	if a.CertificatePassword != "" && a.CertificateFile == "" {
		l.fault(at+".certificate_password", "goes with certificate_file, which is not set")
	}
}

func (l *loader) appleID(at, id string) {
	switch {
	case id == "":
		l.fault(at, "is missing: it goes with key_file")
	case !appleID.MatchString(id):
		l.fault(at, "must have 10 capital letters and digits, like ABC123DEFG, not %q", id)
	}
}
