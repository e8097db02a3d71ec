package simulator

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

//go:embed page.html
var pageHTML string

//go:embed page.css page.js
var pageFiles embed.FS

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"clock": func(t time.Time) string { return t.Local().Format("15:04:05.000") },
	"short": endsOf,
	"kind":  kindOf,
	"how":   howOf,
	"long":  func(payload string) bool { return len(payload) > shortPayload },
	"begin": func(payload string) string {
		return strings.ToValidUTF8(payload[:min(len(payload), shortPayload)], "") + "…"
	},
	"pretty": prettyOf,
}).Parse(pageHTML))

const (
	pageNotifications = 100     // on the page
	pageDevices       = 12      // of those, at the top of it
	maxBody           = 8 << 20 // of a request
	shortPayload      = 120     // bytes of a payload that are shown as they are
)

// pageHandler serves the page that shows a newcomer the push arrive, and the same as JSON for tests.
func (s *Simulator) pageHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.Handle("GET /page.css", http.FileServerFS(pageFiles))
	mux.Handle("GET /page.js", http.FileServerFS(pageFiles))
	mux.HandleFunc("GET /tokens/{token}", s.serveToken)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.Totals()) })
	mux.HandleFunc("GET /counts", s.serveAllCounts)
	mux.HandleFunc("POST /counts", s.serveCounts)
	mux.HandleFunc("POST /feedback", s.serveAddFeedback)
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	handleFaults(mux, "/faults", s.Faults, s.SetFaults, s.log)
	if s.fcm != nil {
		s.handleFCM(mux)
	}
	if s.webPush != nil {
		s.handleWebPush(mux)
	}
	mux.HandleFunc("GET /ca.pem", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-pem-file")
		_, _ = w.Write(s.CAPEM())
	})
	// A web page that the developer happens to have open must not be able to reset the simulator.
	return http.NewCrossOriginProtection().Handler(mux)
}

func (s *Simulator) servePage(w http.ResponseWriter, r *http.Request) {
	token, err := parseToken(r.URL.Query().Get("token"))
	if err != nil {
		token = ""
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none'; "+
			"frame-ancestors 'none'")
	w.Header().Set("Cache-Control", "no-store")
	list := s.recent(token, pageNotifications)
	_ = pageTemplate.Execute(w, map[string]any{
		"Services":      s.pageServices(),
		"Devices":       devicesOf(list, pageDevices),
		"Notifications": list,
		"Token":         token.String(),
		"Feedback":      s.feedback.len(),
		"Recording":     s.cfg.Record == RecordAll,
		"Magic": []pageMagic{{"APNs: a device token", MagicTokens()}, {"FCM: a registration token", fcmsim.MagicTokens()},
			{"Web Push: a subscription", webpushsim.MagicSubscriptions()}},
	})
}

// pageMagic is how single notifications of a service are made to fail.
type pageMagic struct {
	Name string
	List [][2]string
}

// pageService is a service on the page.
type pageService struct {
	Name, Where string
	Totals      Totals
	Faulty      bool
}

// pageServices are those that are served.
func (s *Simulator) pageServices() []pageService {
	var list []pageService
	where := []string{}
	for _, l := range [][2]string{{"provider API", s.ProviderAddr()}, {"binary gateway", s.GatewayAddr()},
		{"feedback", s.FeedbackAddr()}} {
		if l[1] != "" {
			where = append(where, l[0]+" "+l[1])
		}
	}
	if len(where) > 0 {
		list = append(list, pageService{"APNs", strings.Join(where, " · "), s.Totals(), s.Faults() != Faults{}})
	}
	if s.fcm != nil {
		list = append(list, pageService{"FCM", s.fcm.URL(), s.fcm.Totals(), s.fcm.Faults() != fcmsim.Faults{}})
	}
	if s.webPush != nil {
		list = append(list, pageService{"Web Push", s.webPush.Origin(), s.webPush.Totals(),
			s.webPush.Faults() != webpushsim.Faults{}})
	}
	return list
}

// endsOf is a device token by both of its ends: those that are alike differ in one of them.
func endsOf(t push.Token) string {
	const begin, end = 16, 6 // the first 16 digits say how a magic token fails
	text := t.String()
	if len(text) <= begin+end+1 {
		return text
	}
	return text[:begin] + "…" + text[len(text)-end:]
}

// howOf is what a notification asks of its service, beside the payload.
func howOf(n Notification) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+value)
		}
	}
	add("", n.Topic)
	add("", n.PushType)
	if n.Priority > 0 {
		add("priority ", strconv.Itoa(int(n.Priority)))
	}
	add("urgency ", n.Urgency)
	switch {
	case n.TTL > 0:
		add("for ", (time.Duration(n.TTL) * time.Second).String())
	case n.Expiration > 0:
		add("until ", time.Unix(int64(n.Expiration), 0).Local().Format(time.DateTime))
	}
	add("collapse id ", n.CollapseID)
	return strings.Join(parts, " · ")
}

// prettyOf is a payload in lines, where it is JSON.
func prettyOf(payload string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(payload), "", "  ") != nil {
		return payload
	}
	return b.String()
}
