package console

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

const (
	cookieName = "lhspn_console"
	// sessionLife is how long a session lasts, and maxSessions how many there may be: the oldest goes.
	sessionLife = 12 * time.Hour
	maxSessions = 1000
	// maxForm is the length of a form in bytes.
	maxForm = 4 << 20
)

// session is somebody who has given an operator's key. The key itself is not kept.
type session struct {
	key   [sha256.Size]byte // the key's id
	begun time.Time
	// csrf is in each form that the page has for acts.
	csrf string

	mu    sync.Mutex
	flash []flash // what the next page tells
}

// flash is what became of an act.
type flash struct {
	Good bool
	Text string
	// Secret is shown once, to be copied.
	Secret string
}

func (s *session) tell(f flash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flash = append(s.flash, f)
}

// told are what is to be told, once.
func (s *session) told() []flash {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.flash
	s.flash = nil
	return all
}

// sessions are those who have signed in at this process, by the hash of what their cookie has.
type sessions struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]*session
}

func newSessions() *sessions { return &sessions{all: map[[sha256.Size]byte]*session{}} }

// begin makes a session, and returns what its cookie has.
func (s *sessions) begin(key [sha256.Size]byte, now time.Time) string {
	id := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= maxSessions {
		var oldest [sha256.Size]byte
		for hash, other := range s.all {
			if first := s.all[oldest]; first == nil || other.begun.Before(first.begun) {
				oldest = hash
			}
		}
		delete(s.all, oldest)
	}
	s.all[sha256.Sum256([]byte(id))] = &session{key: key, begun: now, csrf: rand.Text()}
	return id
}

func (s *sessions) find(id string, now time.Time) *session {
	hash := sha256.Sum256([]byte(id))
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.all[hash]
	if found != nil && now.Sub(found.begun) > sessionLife {
		delete(s.all, hash)
		return nil
	}
	return found
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(id)))
}

// signedIn is the session of the request and the name of its key; nil where there is none. A key that is revoked ends
// its sessions.
func (k *Console) signedIn(r *http.Request) (*session, string) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil, ""
	}
	s := k.sessions.find(cookie.Value, k.now())
	if s == nil {
		return nil, ""
	}
	name, still := k.Operators.StillOperator(s.key)
	if !still {
		k.sessions.end(cookie.Value)
		return nil, ""
	}
	return s, name
}

// setCookie gives or, with an empty id, takes the cookie.
func setCookie(w http.ResponseWriter, r *http.Request, id string) {
	c := &http.Cookie{ //nolint:gosec // Secure depends on how the browser has come here, as is explained below
		Name: cookieName, Value: id, Path: Path, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		MaxAge: int(sessionLife / time.Second),
		// Behind a proxy that has TLS only the header tells; who writes it himself harms only himself.
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	}
	if id == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// namedHost reports whether the request is for a name other than localhost. A page elsewhere can have its own name lead
// here (DNS rebinding), and then reads what this answers: what is for a name is shown to who has signed in only, whose
// cookie such a page does not have.
func namedHost(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return false
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err != nil
}

// mayRead reports whether the page is shown.
func (k *Console) mayRead(r *http.Request) bool {
	if k.ReadFreely && !namedHost(r) {
		return true
	}
	s, _ := k.signedIn(r)
	return s != nil
}

// reading lets through who may read; others get the page that asks for a key.
func (k *Console) reading(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if k.mayRead(r) {
			next(w, r)
			return
		}
		k.askForKey(w, r, http.StatusUnauthorized, "")
	}
}

// acting lets through who has signed in and posts one of the page's own forms, and writes the line of the audit log.
func (k *Console) acting(act string, next func(*acting)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := k.now()
		s, name := k.signedIn(r)
		if s == nil {
			const text = "This needs an operator's key: sign in, and do it again."
			k.askForKey(w, r, http.StatusUnauthorized, text)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := parseForm(r); err != nil {
			k.servePageWith(w, r, http.StatusRequestEntityTooLarge, flash{Text: "The form is too large, or broken off."})
			return
		}
		if subtle.ConstantTimeCompare([]byte(r.PostFormValue("csrf")), []byte(s.csrf)) != 1 {
			k.servePageWith(w, r, http.StatusForbidden,
				flash{Text: "The form is not of this session, and nothing was done. Do it again on this page."})
			return
		}
		a := &acting{Console: k, w: w, r: r, session: s, app: r.PostFormValue("app"), status: http.StatusOK}
		defer func() {
			if act == "" {
				return
			}
			attrs := []any{"act", act, "key", name, "scope", "operator", "from", k.Client(r).String(), "via", "console",
				"status", a.status}
			if a.app != "" {
				attrs = append(attrs, "app", shortText(a.app))
			}
			if a.about != "" {
				attrs = append(attrs, "about", shortText(a.about))
			}
			k.Log.Log(r.Context(), push.LevelAudit, "audit", append(attrs, "took", k.now().Sub(start))...)
		}()
		next(a)
	}
}

// parseForm reads a form in either of its encodings.
func parseForm(r *http.Request) error {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		return r.ParseMultipartForm(maxForm)
	}
	return r.ParseForm()
}

// shortText keeps what somebody typed from filling the log.
func shortText(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// acting is one act of somebody who has signed in.
type acting struct {
	*Console
	w       http.ResponseWriter
	r       *http.Request
	session *session
	app     string
	about   string // what else it is on, for the audit log
	status  int    // of what became of it
}

// done tells what became of the act on the page that query and section name.
func (a *acting) done(f flash, query, section string) {
	a.session.tell(f)
	target := Path
	if query != "" {
		target += "?" + query
	}
	if section != "" {
		target += "#" + section
	}
	http.Redirect(a.w, a.r, target, http.StatusSeeOther)
}

// failed shows the page with what is wrong.
func (a *acting) failed(err error, query string) {
	p := a.explain(err)
	a.status = p.Status
	text := p.Text
	for _, f := range p.Faults {
		text += " " + f.Location + " " + f.Message + "."
	}
	a.done(flash{Text: text}, query, "")
}

// explain says what an error is to people, and logs it where it is one of ours.
func (k *Console) explain(err error) Problem {
	p := k.Explain(err)
	if p.Status == http.StatusInternalServerError {
		k.Log.Error("console request failed", "error", err)
	}
	return p
}

func (k *Console) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	id, name, err := k.Operators.Operator(r.PostFormValue("key"), k.Client(r))
	if err != nil {
		p := k.explain(err)
		k.askForKey(w, r, p.Status, p.Text)
		return
	}
	setCookie(w, r, k.sessions.begin(id, k.now()))
	k.Log.Log(r.Context(), push.LevelAudit, "audit", "act", "sign in", "key", name, "scope", "operator", "from",
		k.Client(r).String(), "via", "console")
	http.Redirect(w, r, Path, http.StatusSeeOther)
}

func (k *Console) signOut(a *acting) {
	if cookie, err := a.r.Cookie(cookieName); err == nil {
		k.sessions.end(cookie.Value)
	}
	setCookie(a.w, a.r, "")
	http.Redirect(a.w, a.r, Path, http.StatusSeeOther)
}
