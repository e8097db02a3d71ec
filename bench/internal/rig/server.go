package rig

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Key is the API key of the first app that every configuration here has; its scope is admin.
const Key = "bench-key-of-a-throw-away-server"

// Topic is that app's topic, the simulator's default.
const Topic = "com.example.hedgehog"

// ServerConfig says what a server is to run on.
type ServerConfig struct {
	Bin, Dir string
	Name     string // of the process and its files; default "server"
	Database string // as in the configuration
	// Transport is "http2" or "binary", at Gateway (host:port) with the credentials in the directory Credentials.
	Transport, Gateway, Credentials string
	Connections                     int
	// Extra is YAML appended at the top level, AppExtra below each app's apns.
	Extra, AppExtra string
	// RegisterKey is one more key of each app, with the scope register; empty for none.
	RegisterKey string
	// OtherApps are the names of apps like the first one: see API.Of.
	OtherApps []string
}

// Server is the service as a process of its own.
type Server struct {
	*Process
	API
	cfg                ServerConfig
	file, log          string
	OpsAddress, Listen string
}

// StartServer writes the configuration, starts the program and waits until it is ready.
func StartServer(ctx context.Context, cfg ServerConfig) (*Server, error) {
	if cfg.Name == "" {
		cfg.Name = "server"
	}
	if cfg.Connections == 0 {
		cfg.Connections = 2
	}
	s := &Server{cfg: cfg, file: filepath.Join(cfg.Dir, cfg.Name+".yaml"), log: filepath.Join(cfg.Dir, cfg.Name+".log")}
	var err error
	if s.Listen, err = FreeAddress(); err != nil {
		return nil, err
	}
	if s.OpsAddress, err = FreeAddress(); err != nil {
		return nil, err
	}
	s.API = NewAPI("http://" + s.Listen)
	if err := os.WriteFile(s.file, []byte(s.config()), 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	return s, s.Restart(ctx)
}

func (s *Server) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "listen: %s\nops_listen: %s\ndatabase: %q\n%sapps:\n", s.Listen, s.OpsAddress, s.cfg.Database,
		s.cfg.Extra)
	s.app(&b, "hedgehog", Key)
	for _, name := range s.cfg.OtherApps {
		s.app(&b, name, keyOf(name))
	}
	return b.String()
}

// app writes an app's part of the configuration.
func (s *Server) app(b *strings.Builder, name, key string) {
	hash := sha256.Sum256([]byte(key))
	fmt.Fprintf(b, "  - name: %s\n    apns:\n      topic: %s\n      transport: %s\n", name, Topic, s.cfg.Transport)
	fmt.Fprintf(b, "      gateway: %s\n      ca_file: %s/ca.pem\n      connections: %d\n",
		s.cfg.Gateway, s.cfg.Credentials, s.cfg.Connections)
	if s.cfg.Transport == "binary" {
		fmt.Fprintf(b, "      certificate_file: %s/client.pem\n", s.cfg.Credentials)
	} else {
		fmt.Fprintf(b, "      key_file: %s/AuthKey_SIMKEY0001.p8\n      key_id: SIMKEY0001\n      team_id: SIMTEAM001\n",
			s.cfg.Credentials)
	}
	fmt.Fprintf(b, "%s    keys:\n      - name: bench\n        scope: admin\n        sha256: %s\n",
		s.cfg.AppExtra, hex.EncodeToString(hash[:]))
	if s.cfg.RegisterKey != "" {
		hash = sha256.Sum256([]byte(s.cfg.RegisterKey))
		fmt.Fprintf(b, "      - name: phone\n        scope: register\n        sha256: %s\n", hex.EncodeToString(hash[:]))
	}
}

func keyOf(app string) string { return Key + "-" + app }

// Restart starts the program again after it has ended, with the same configuration and addresses, and waits until it is
// ready.
func (s *Server) Restart(ctx context.Context) error {
	program, err := Program(s.cfg.Bin, "server")
	if err != nil {
		return err
	}
	// It outlives the call, and ends by Stop or Kill.
	s.Process, err = Start(context.WithoutCancel(ctx), Spec{
		Name: s.cfg.Name, Program: program, Args: []string{"serve", "--config", s.file}, LogFile: s.log,
	})
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	err = Poll(waiting, 5*time.Millisecond, "wait for "+s.cfg.Name+" to become ready", func() (bool, error) {
		select {
		case <-s.Ended():
			return false, ErrEnded
		default:
		}
		return s.Ready(waiting), nil
	})
	if err != nil {
		s.Kill()
		return fmt.Errorf("%w: %s", err, s.Log())
	}
	return nil
}

// Ready reports whether the service says that it is ready. One that does not answer is not.
func (s *Server) Ready(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.OpsAddress+"/readyz", nil)
	if err != nil {
		return false
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// Metric is the sum of the metric's series; 0 where there is none.
func (s *Server) Metric(ctx context.Context, name string) (sum float64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.OpsAddress+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("read the metrics: %w", err)
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), " ") // no label of ours holds a space
		if bare, _, _ := strings.Cut(series, "{"); bare == name {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, fmt.Errorf("read the metric %s: %w", name, err)
			}
			sum += v
		}
	}
	return sum, nil
}

// API calls the service's REST API, for the first app.
type API struct {
	Base   string
	key    string
	client *http.Client
}

// Of is the API for one of the other apps.
func (a API) Of(app string) API {
	a.key = keyOf(app)
	return a
}

// NewAPI returns an API at the base URL.
func NewAPI(base string) API {
	// A kept connection per process is enough here, and none must outlive a killed server unnoticed.
	return API{Base: base, key: Key, client: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}}}
}

// StatusError is an answer that is not a 2xx.
type StatusError struct {
	Status int
	Body   string
}

// Error is the status and what came with it.
func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Body) }

// Call makes one request; into may be nil.
func (a API) Call(ctx context.Context, method, path string, header http.Header, body io.Reader, into any) error {
	answer, err := a.open(ctx, method, path, header, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, answer.Body)
	} else {
		err = json.NewDecoder(answer.Body).Decode(into)
	}
	if err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

func (a API) open(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response,
	error) {
	request, err := http.NewRequestWithContext(ctx, method, a.Base+path, body)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Authorization", "Bearer "+a.key)
	if body != nil && request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := a.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if answer.StatusCode/100 != 2 {
		defer answer.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
		return nil, fmt.Errorf("%s %s: %w", method, path, &StatusError{answer.StatusCode, string(text)})
	}
	return answer, nil
}

// Counts are a notification's counts.
type Counts struct {
	Pending      int64 `json:"pending"`
	Accepted     int64 `json:"accepted"`
	Failed       int64 `json:"failed"`
	Unregistered int64 `json:"unregistered"`
	Expired      int64 `json:"expired"`
	Cancelled    int64 `json:"cancelled"`
}

// Sum is what has to be the number of recipients.
func (c Counts) Sum() int64 {
	return c.Pending + c.Accepted + c.Failed + c.Unregistered + c.Expired + c.Cancelled
}

// Notification is a notification as the API shows it.
type Notification struct {
	ID         string `json:"id"`
	State      string `json:"state"`
	Recipients *int64 `json:"recipients"`
	Counts     Counts `json:"counts"`
	// ByPlatform is only there where the notification is for several platforms.
	ByPlatform  map[string]Counts `json:"by_platform"`
	CreatedAt   time.Time         `json:"created_at"`
	FirstSentAt *time.Time        `json:"first_sent_at"`
	FinishedAt  *time.Time        `json:"finished_at"`
}

// Post posts a notification. idempotencyKey may be empty.
func (a API) Post(ctx context.Context, body []byte, idempotencyKey string) (Notification, error) {
	header := http.Header{}
	if idempotencyKey != "" {
		header.Set("Idempotency-Key", idempotencyKey)
	}
	var n Notification
	return n, a.Call(ctx, http.MethodPost, "/v1/notifications", header, bytes.NewReader(body), &n)
}

// Notification asks for one notification.
func (a API) Notification(ctx context.Context, id string) (Notification, error) {
	var n Notification
	return n, a.Call(ctx, http.MethodGet, "/v1/notifications/"+id, nil, nil, &n)
}

// Done waits until the notification is done.
func (a API) Done(ctx context.Context, id string) (Notification, error) {
	var n Notification
	err := Poll(ctx, 20*time.Millisecond, "wait for notification "+id, func() (bool, error) {
		var err error
		n, err = a.Notification(ctx, id)
		return n.State == "done", err
	})
	return n, err
}

// Import registers n tokens; token appends the i-th in hexadecimal.
func (a API) Import(ctx context.Context, n int, token func(dst []byte, i int) []byte) error {
	return a.ImportLines(ctx, n, func(dst []byte, i int) []byte {
		return append(token(append(dst, `{"token":"`...), i), `"}`...)
	})
}

// ImportLines registers n devices; line appends the i-th line of the import, without its end.
func (a API) ImportLines(ctx context.Context, n int, line func(dst []byte, i int) []byte) error {
	reader, writer := io.Pipe()
	go func() {
		buffered := bufio.NewWriterSize(writer, 64<<10)
		var text []byte
		for i := range n {
			text = append(line(text[:0], i), '\n')
			if _, err := buffered.Write(text); err != nil {
				return // the reader is gone, and reports why
			}
		}
		_ = writer.CloseWithError(buffered.Flush())
	}()
	var answer map[string]any
	header := http.Header{"Content-Type": {"application/x-ndjson"}}
	err := a.Call(ctx, http.MethodPost, "/v1/tokens/import", header, reader, &answer)
	_ = reader.Close()
	if err != nil {
		return err
	}
	if refused, ok := answer["refused"].(float64); ok && refused != 0 {
		return fmt.Errorf("the import refused %v lines: %v", refused, answer)
	}
	return nil
}

// Registered is a token as the export shows it.
type Registered struct {
	Token string `json:"token"`
	Badge uint32 `json:"badge"`
}

// Export calls f with every registered token.
func (a API) Export(ctx context.Context, f func(Registered)) error {
	answer, err := a.open(ctx, http.MethodGet, "/v1/tokens/export", nil, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	for decoder := json.NewDecoder(answer.Body); ; {
		var t Registered
		if err := decoder.Decode(&t); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the export: %w", err)
		}
		f(t)
	}
}

// Insist makes a call again and again while the service is away (being killed and started), says 429 or 503, or breaks
// off. Any other refusal is an error.
func Insist(ctx context.Context, call func(context.Context) error) error {
	var last error
	err := Poll(ctx, 20*time.Millisecond, "call the service", func() (bool, error) {
		// An answer that a killed process owes must not be waited for.
		one, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		last = call(one)
		var refused *StatusError
		if errors.As(last, &refused) && refused.Status != http.StatusServiceUnavailable &&
			refused.Status != http.StatusTooManyRequests {
			return false, last
		}
		return last == nil, nil // whatever else it was, it is tried again
	})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w; the last answer: %w", err, last)
	}
	return err
}
