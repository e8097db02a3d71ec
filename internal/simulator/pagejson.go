package simulator

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

func (s *Simulator) serveToken(w http.ResponseWriter, r *http.Request) {
	token, err := parseToken(r.PathValue("token"))
	if err != nil {
		badRequest(w, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Token push.Token `json:"token"`
		Counts
		Notifications []Notification `json:"notifications"` // newest first
	}{token, s.Counts(token), s.recent(token, s.cfg.Recent)})
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
		token, err := parseToken(t)
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

// handleFCM adds what the page offers of FCM.
func (s *Simulator) handleFCM(mux *http.ServeMux) {
	mux.HandleFunc("GET /fcm/stats", func(w http.ResponseWriter,
		_ *http.Request) {
		writeJSON(w, http.StatusOK, s.fcm.Totals())
	})
	handleFaults(mux, "/fcm/faults", s.fcm.Faults, s.fcm.SetFaults, s.log)
	mux.HandleFunc("GET /fcm/service-account.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(s.fcm.ServiceAccount())
	})
	mux.HandleFunc("POST /fcm/expire-tokens", func(w http.ResponseWriter, _ *http.Request) {
		s.fcm.ExpireTokens()
		w.WriteHeader(http.StatusNoContent)
	})
}

// handleWebPush adds what the page offers of Web Push.
func (s *Simulator) handleWebPush(mux *http.ServeMux) {
	mux.HandleFunc("GET /webpush/stats", func(w http.ResponseWriter,
		_ *http.Request) {
		writeJSON(w, http.StatusOK, s.webPush.Totals())
	})
	handleFaults(mux, "/webpush/faults", s.webPush.Faults, s.webPush.SetFaults, s.log)
	mux.HandleFunc("POST /webpush/subscribe", s.serveSubscribe)
	mux.HandleFunc("POST /webpush/unsubscribe", s.serveUnsubscribe)
	mux.HandleFunc("GET /webpush/pending/{token}", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, s.webPush.Pending(push.Token(r.PathValue("token"))))
	})
}

// serveSubscribe plays a browser: {"applicationServerKey": VAPID public key, "fault": name} gives a subscription.
func (s *Simulator) serveSubscribe(w http.ResponseWriter, r *http.Request) {
	var body struct {
		ApplicationServerKey string `json:"applicationServerKey"`
		Fault                string `json:"fault"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	fault, err := webpushsim.ParseFault(body.Fault)
	if err != nil {
		badRequest(w, err)
		return
	}
	subscription, err := s.webPush.Subscribe(body.ApplicationServerKey, fault)
	if err != nil {
		badRequest(w, err)
		return
	}
	writeJSON(w, http.StatusCreated, subscription)
}

// serveUnsubscribe gives a subscription up, {"endpoint": …}: it is gone from now on.
func (s *Simulator) serveUnsubscribe(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Endpoint string `json:"endpoint"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	if err := s.webPush.Unsubscribe(body.Endpoint); err != nil {
		badRequest(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// handleFaults gives and replaces the faults of a service: what the body of a PUT leaves out is off.
func handleFaults[F any](mux *http.ServeMux, path string, get func() F, set func(F), log *slog.Logger) {
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, get()) })
	mux.HandleFunc("PUT "+path, func(w http.ResponseWriter, r *http.Request) {
		var f F
		if !readJSON(w, r, &f) {
			return
		}
		set(f)
		log.Info("faults set", "path", path, "faults", f)
		w.WriteHeader(http.StatusNoContent)
	})
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

// parseToken reads a token from its written form: hexadecimal of any length, since the simulator also takes what is no
// token, or a platform's name and an address.
func parseToken(s string) (push.Token, error) {
	if strings.Contains(s, ":") {
		return push.Token(s), nil
	}
	return parseHex(s)
}
