package simulator

import (
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"clock": func(t time.Time) string { return t.Local().Format("15:04:05.000") },
	"short": func(t push.Token) string { return t.Short() },
}).Parse(pageHTML))

const (
	pageNotifications = 100     // on the page
	maxBody           = 8 << 20 // of a request
)

// pageHandler serves the page that shows a newcomer the push arrive, and the same as JSON for tests.
func (s *Simulator) pageHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("GET /tokens/{token}", s.serveToken)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.Totals()) })
	mux.HandleFunc("GET /counts", s.serveAllCounts)
	mux.HandleFunc("POST /counts", s.serveCounts)
	mux.HandleFunc("POST /feedback", s.serveAddFeedback)
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.Faults()) })
	mux.HandleFunc("PUT /faults", s.serveSetFaults)
	mux.HandleFunc("GET /ca.pem", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-pem-file")
		_, _ = w.Write(s.CAPEM())
	})
	// A web page that the developer happens to have open must not be able to reset the simulator.
	return http.NewCrossOriginProtection().Handler(mux)
}

func (s *Simulator) servePage(w http.ResponseWriter, r *http.Request) {
	token, err := parseHex(r.URL.Query().Get("token"))
	if err != nil {
		token = ""
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")
	w.Header().Set("Cache-Control", "no-store")
	_ = pageTemplate.Execute(w, map[string]any{
		"Totals":        s.Totals(),
		"Notifications": s.recorder.Recent(token, pageNotifications),
		"Token":         token.String(),
		"Feedback":      s.feedback.len(),
		"Faulty":        s.Faults() != Faults{},
		"Gateway":       s.GatewayAddr(),
		"FeedbackAddr":  s.FeedbackAddr(),
		"Provider":      s.ProviderAddr(),
		"Recording":     s.cfg.Record == RecordAll,
		"Now":           time.Now(),
	})
}

func (s *Simulator) serveToken(w http.ResponseWriter, r *http.Request) {
	token, err := parseHex(r.PathValue("token"))
	if err != nil {
		badRequest(w, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Token push.Token `json:"token"`
		Counts
		Notifications []Notification `json:"notifications"` // newest first
	}{token, s.Counts(token), s.recorder.Recent(token, s.cfg.Recent)})
}

// tokenCounts is one line of the answers about counts.
type tokenCounts struct {
	Token push.Token `json:"token"`
	Counts
}

// serveAllCounts answers one JSON object a line, since there may be millions.
func (s *Simulator) serveAllCounts(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder := json.NewEncoder(w)
	s.EachCount(func(token push.Token, c Counts) bool { return encoder.Encode(tokenCounts{token, c}) == nil })
}

// serveCounts answers the counts of the tokens in the body, a JSON array, in their order.
func (s *Simulator) serveCounts(w http.ResponseWriter, r *http.Request) {
	var tokens []string
	if !readJSON(w, r, &tokens) {
		return
	}
	list := make([]tokenCounts, len(tokens))
	for i, t := range tokens {
		token, err := parseHex(t)
		if err != nil {
			badRequest(w, err)
			return
		}
		list[i] = tokenCounts{token, s.Counts(token)}
	}
	writeJSON(w, http.StatusOK, list)
}

// serveAddFeedback takes {"token": "hex", "timestamp": Unix seconds}; the timestamp is now where it is left out.
func (s *Simulator) serveAddFeedback(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token     string  `json:"token"`
		Timestamp *uint32 `json:"timestamp"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	token, err := parseHex(body.Token)
	if err == nil && token == "" {
		err = errors.New("token is missing")
	}
	if err != nil {
		badRequest(w, err)
		return
	}
	at := time.Now()
	if body.Timestamp != nil {
		at = time.Unix(int64(*body.Timestamp), 0)
	}
	s.AddFeedback(at, token)
	w.WriteHeader(http.StatusNoContent)
}

// serveSetFaults replaces all faults: what the body leaves out is off.
func (s *Simulator) serveSetFaults(w http.ResponseWriter, r *http.Request) {
	var f Faults
	if !readJSON(w, r, &f) {
		return
	}
	s.SetFaults(f)
	s.log.Info("faults set", "faults", f)
	w.WriteHeader(http.StatusNoContent)
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil && decoder.Decode(&struct{}{}) != io.EOF {
		err = errors.New("more than one JSON value")
	}
	if err != nil {
		badRequest(w, err)
		return false
	}
	return true
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func badRequest(w http.ResponseWriter, err error) {
	const status = http.StatusBadRequest
	writeJSON(w, status, map[string]string{"error": err.Error(), "status": strconv.Itoa(status)})
}
