package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lhspn/lhspn/internal/apns/payload"
	"github.com/lhspn/lhspn/internal/push"
)

const proofSecret = "a secret of the app's own backend"

// cutReader is a body whose connection breaks at its end.
type cutReader struct{ bytes.Buffer }

func (c *cutReader) Read(b []byte) (int, error) {
	n, err := c.Buffer.Read(b)
	if err != nil {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func mustToken(tb testing.TB, hex string) push.Token {
	tb.Helper()
	token, err := push.ParseToken(hex)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func TestRegister(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.call(registerKey, http.MethodPut, "/v1/tokens/"+strings.ToUpper(token1), "")
	wantStatus(t, w, 201)
	d := decode[deviceBody](t, w)
	if d.Token != token1 || *d.Environment != "production" || d.Badge != 0 || d.UserID != nil || d.Tags == nil || d.LastUpdated.IsZero() || d.CreatedAt.IsZero() {
		t.Errorf("answer %s", w.Body)
	}
	w = f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, `{"badge": 3, "user_id": "u\u00e9", "tags": ["beta", "plan:pro", "beta"], "device_id": "d",
		"app_version": "1", "os_version": "2", "device_model": "3", "locale": "4", "time_zone": "5", "environment": "sandbox"}`)
	wantStatus(t, w, 200)
	d = decode[deviceBody](t, w)
	if d.Badge != 3 || *d.UserID != "ué" || !cmp.Equal(d.Tags, []string{"beta", "plan:pro"}) || *d.TimeZone != "5" || *d.Environment != "sandbox" {
		t.Errorf("answer %s", w.Body)
	}

	// What is left out is kept, but for the badge.
	d = decode[deviceBody](t, f.call(sendKey, http.MethodPut, "/v1/tokens/"+token1, `{}`))
	if d.Badge != 0 || *d.UserID != "ué" || len(d.Tags) != 2 || *d.Environment != "sandbox" {
		t.Errorf("kept %+v", d)
	}
	// A register key reads nothing back but what it sent.
	w = f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1, `{"os_version": "2", "tags": ["mine"]}`)
	d = decode[deviceBody](t, w)
	if d.UserID != nil || !cmp.Equal(d.Tags, []string{"mine"}) || d.DeviceID != nil || d.Locale != nil || d.TimeZone != nil || *d.OSVersion != "2" {
		t.Errorf("answer to a register key %s", w.Body)
	}
	if d.Environment != nil || d.Kind != nil || d.CreatedAt != nil || d.LastUpdated.IsZero() {
		t.Errorf("answer to a register key %s", w.Body)
	}
	if w = f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1, ""); w.Code != 200 || strings.Contains(w.Body.String(), "sandbox") {
		t.Errorf("answer to a register key %s", w.Body)
	}
	wantStatus(t, f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1, `{"environment": "sandbox", "kind": ""}`), 200)
	d = decode[deviceBody](t, f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1, `{"environment": "sandbox", "kind": "alert"}`))
	if *d.Environment != "sandbox" || *d.Kind != "alert" || d.CreatedAt != nil {
		t.Errorf("what a register key has sent is not answered: %+v", d)
	}
	d = decode[deviceBody](t, f.call(registerKey, http.MethodPut, "/v1/tokens/"+token2, "")) // all of it is its own doing
	if *d.Environment != "production" || *d.Kind != "alert" || d.CreatedAt.IsZero() {
		t.Errorf("a new token %+v", d)
	}
	// null and "" clear.
	d = decode[deviceBody](t, f.call(sendKey, http.MethodPut, "/v1/tokens/"+token1, `{"user_id": null, "tags": null, "locale": "", "environment": null, "badge": null}`))
	if d.UserID != nil || len(d.Tags) != 0 || d.Locale != nil || *d.Environment != "production" || *d.TimeZone != "5" {
		t.Errorf("cleared %+v", d)
	}
}

// A register key sets and removes only the tags that are its own.
func TestTagsOfARegisterKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	put := func(tags string) *httptest.ResponseRecorder {
		return f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1, `{"tags": [`+tags+`]}`)
	}
	app := f.directory.Load().apps["hedgehog"]
	for _, c := range []struct {
		own        []string
		good, evil string
	}{{nil, `"beta", "x.y"`, `"beta", "plan:pro"`}, {[]string{"news:", "beta"}, `"news:sport", "beta2"`, `"news:sport", "alpha"`}} {
		app.RegisterTags = c.own
		if w := put(c.good); w.Code >= 300 {
			t.Errorf("%v, %s: %s", c.own, c.good, w.Body)
		}
		if p := wantProblem(t, put(c.evil), 403, "forbidden"); !strings.Contains(p.Detail, "tags[1]") {
			t.Error(p.Detail)
		}
	}
	bounds := f.registered[len(f.registered)-1].Bounds
	if bounds == nil || !bounds.OwnTag("news:x") || bounds.OwnTag("plan:pro") {
		t.Errorf("the store was told %+v", bounds)
	}
	wantStatus(t, f.call(sendKey, http.MethodPut, "/v1/tokens/"+token1, `{"tags": ["plan:pro"]}`), 200)
	if f.registered[len(f.registered)-1].Bounds != nil {
		t.Error("a send key is bounded")
	}
}

func TestReplaces(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, body := range []string{`{"replaces": "` + token2 + `"}`, `{"replaces": "` + strings.ToUpper(token2) + `"}`} {
		if w := f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1, body); w.Code >= 300 || f.registered[len(f.registered)-1].Replaces != mustToken(t, token2) {
			t.Errorf("%s: %s", body, w.Body)
		}
	}
	wantStatus(t, f.call(registerKey, http.MethodPost, "/v1/tokens", `{"platform": "apns", "token": "`+token1+`", "replaces": "`+token2+`"}`), 200)
	for _, body := range []string{`{"replaces": "xyz"}`, `{"replaces": 1}`} {
		wantProblem(t, f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1, body), 422, "invalid", "body.replaces")
	}
	f.err = push.ErrForbidden
	if p := wantProblem(t, f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1, ""), 403, "forbidden"); !strings.Contains(p.Detail, "it is missing") {
		t.Error(p.Detail)
	}
}

func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	good := "/v1/tokens/" + token1
	long := strings.Repeat("x", 256)
	tags := func(n int) string {
		return `["` + strings.Join(strings.Split(strings.Repeat("t", n), ""), `","`) + `"]`
	}
	for name, c := range map[string]struct {
		path, body string
		status     int
		slug       string
		at         []string
	}{
		"not hexadecimal":       {"/v1/tokens/" + strings.Repeat("xy", 32), ``, 422, "invalid", []string{"path.token"}},
		"odd":                   {good + "a", ``, 422, "invalid", []string{"path.token"}},
		"too short":             {"/v1/tokens/" + token1[:62], ``, 422, "invalid", []string{"path.token"}},
		"too long":              {"/v1/tokens/" + strings.Repeat("ab", 101), ``, 422, "invalid", []string{"path.token"}},
		"escaped slash":         {"/v1/tokens/" + token1[:32] + "%2f" + token1[:32], ``, 422, "invalid", []string{"path.token"}},
		"not JSON":              {good, `badge=1`, 400, "not-json", nil},
		"cut off":               {good, `{"badge": 1`, 400, "not-json", nil},
		"garbage behind":        {good, `{} {}`, 400, "not-json", nil},
		"not UTF-8":             {good, "{\"user_id\": \"\xff\"}", 400, "not-json", nil},
		"an array":              {good, `[]`, 422, "invalid", []string{"body"}},
		"unknown field":         {good, `{"bagde": 1}`, 422, "invalid", []string{"body.bagde"}},
		"duplicate":             {good, `{"badge": 1, "b\u0061dge": 2}`, 422, "invalid", []string{"body.badge"}},
		"badge negative":        {good, `{"badge": -1}`, 422, "invalid", []string{"body.badge"}},
		"badge too large":       {good, `{"badge": 4294967296}`, 422, "invalid", []string{"body.badge"}},
		"badge fractional":      {good, `{"badge": 1.5}`, 422, "invalid", []string{"body.badge"}},
		"badge text":            {good, `{"badge": "1"}`, 422, "invalid", []string{"body.badge"}},
		"environment":           {good, `{"environment": "prod"}`, 422, "invalid", []string{"body.environment"}},
		"user too long":         {good, `{"user_id": "` + long + `"}`, 422, "invalid", []string{"body.user_id"}},
		"user a number":         {good, `{"user_id": 5}`, 422, "invalid", []string{"body.user_id"}},
		"user with NUL":         {good, `{"user_id": "a\u0000"}`, 422, "invalid", []string{"body.user_id"}},
		"device too long":       {good, `{"device_id": "` + long + `"}`, 422, "invalid", []string{"body.device_id"}},
		"tags too many":         {good, `{"tags": ` + tags(65) + `}`, 422, "invalid", []string{"body.tags"}},
		"tag too long":          {good, `{"tags": ["a", "` + long[:101] + `"]}`, 422, "invalid", []string{"body.tags[1]"}},
		"tag empty":             {good, `{"tags": [""]}`, 422, "invalid", []string{"body.tags[0]"}},
		"tags not an array":     {good, `{"tags": "beta"}`, 422, "invalid", []string{"body.tags"}},
		"every fault is listed": {good, `{"badge": -1, "tags": [1], "x": 2}`, 422, "invalid", []string{"body.badge", "body.tags[0]", "body.x"}},
		"too large":             {good, `{"user_id": "` + strings.Repeat("x", maxRegistration) + `"}`, 413, "too-large", nil},
		"badge route, missing":  {good + "/badge", `{}`, 422, "invalid", []string{"body.badge"}},
		"badge route, no body":  {good + "/badge", ``, 422, "invalid", []string{"body"}},
		"badge route, wrong":    {good + "/badge", `{"badge": true}`, 422, "invalid", []string{"body.badge"}},
		"badge route, unknown":  {good + "/badge", `{"badge": 1, "x": 1}`, 422, "invalid", []string{"body.x"}},
		"badge route, no token": {good + "/badge", `{"badge": 1}`, 404, "not-found", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			wantProblem(t, f.call(adminKey, http.MethodPut, c.path, c.body), c.status, c.slug, c.at...)
			if len(f.devices) > 0 {
				t.Error("something was stored")
			}
		})
	}
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for media, status := range map[string]int{
		"application/json; charset=utf-8": 200, "Application/JSON": 200, "application/vnd.x+json": 200, "": 200,
		"application/json; charset=utf-8; x=y": 200, `application/json; charset="UTF-8"`: 200, "application/json;": 200,
		"text/plain": 415, "application/x-www-form-urlencoded": 415, "application/json; charset=latin1": 415,
		"application/json; x=y; charset=latin1": 415,
	} {
		f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, `{}`)
		if w := f.call(adminKey, http.MethodPut, "/v1/tokens/"+token1, `{}`, "Content-Type", media); w.Code != status {
			t.Errorf("%q: status %d, want %d", media, w.Code, status)
		}
	}
	for _, r := range [][2]string{{http.MethodPut, "/v1/tokens/" + token1}, {http.MethodPost, "/v1/tokens/import"}} {
		wantProblem(t, f.call(adminKey, r[0], r[1], `{}`, "Content-Encoding", "gzip"), 415, "unsupported-media-type")
		wantStatus(t, f.call(adminKey, r[0], r[1], `{}`, "Content-Encoding", "identity"), 200)
	}
}

func TestBadge(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1, `{"badge": 7}`)
	wantStatus(t, f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1+"/badge", `{"badge": 4294967295}`), 204)
	if d := decode[deviceBody](t, f.call(sendKey, http.MethodGet, "/v1/tokens/"+token1, "")); d.Badge != 4294967295 {
		t.Errorf("badge %d", d.Badge)
	}
}

func TestGetAndDelete(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1, "")
	wantStatus(t, f.call(sendKey, http.MethodGet, "/v1/tokens/"+strings.ToUpper(token1), ""), 200)
	wantProblem(t, f.call(otherKey, http.MethodGet, "/v1/tokens/"+token1, ""), 404, "not-found")
	wantStatus(t, f.call(registerKey, http.MethodDelete, "/v1/tokens/"+token1, ""), 204)
	wantStatus(t, f.call(registerKey, http.MethodDelete, "/v1/tokens/"+token1, ""), 204)
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/tokens/"+token1, ""), 404, "not-found")
	wantProblem(t, f.call(sendKey, http.MethodGet, "/v1/tokens/"+token1[1:], ""), 422, "invalid", "path.token")
	wantProblem(t, f.call(sendKey, http.MethodDelete, "/v1/tokens/"+strings.Repeat("zz", 32), ""), 422, "invalid", "path.token")
}

func TestListTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 5 {
		f.call(adminKey, http.MethodPut, fmt.Sprintf("/v1/tokens/%064x", i), fmt.Sprintf(`{"user_id": "u%d", "tags": ["t%d"]}`, i%2, i))
	}
	var seen []string
	for cursor, pages := "", 0; pages < 4; pages++ {
		l := decode[listBody[deviceBody]](t, f.call(adminKey, http.MethodGet, "/v1/tokens?limit=2&cursor="+cursor, ""))
		for _, d := range l.Items {
			seen = append(seen, d.Token[62:])
		}
		if l.NextCursor == nil {
			if pages != 2 {
				t.Errorf("the end came after page %d", pages)
			}
			break
		}
		cursor = *l.NextCursor
	}
	if !cmp.Equal(seen, []string{"00", "01", "02", "03", "04"}) {
		t.Errorf("listed %q", seen)
	}
	if l := decode[listBody[deviceBody]](t, f.call(adminKey, http.MethodGet, "/v1/tokens?user_id=u1&environment=production", "")); len(l.Items) != 2 {
		t.Errorf("by user: %d", len(l.Items))
	}
	if l := decode[listBody[deviceBody]](t, f.call(adminKey, http.MethodGet, "/v1/tokens?tag=t4", "")); len(l.Items) != 1 {
		t.Errorf("by tag: %d", len(l.Items))
	}
	if l := decode[listBody[deviceBody]](t, f.call(adminKey, http.MethodGet, "/v1/tokens?limit=5", "")); len(l.Items) != 5 || l.NextCursor != nil {
		t.Errorf("a list of just the limit's length: %d, next %v", len(l.Items), l.NextCursor)
	}
	if body := f.call(adminKey, http.MethodGet, "/v1/tokens?tag=none", "").Body.String(); body != `{"items":[],"next_cursor":null}`+"\n" {
		t.Errorf("an empty list is %s", body)
	}
	for query, at := range map[string]string{
		"limit=0": "query.limit", "limit=1001": "query.limit", "limit=x": "query.limit", "cursor=%21": "query.cursor",
		"cursor=YQ":        "query.cursor", // of one byte, which no registered token is
		"environment=test": "query.environment", "page=2": "query.page",
	} {
		wantProblem(t, f.call(adminKey, http.MethodGet, "/v1/tokens?"+query, ""), 422, "invalid", at)
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	body := strings.Join([]string{
		// As some editors and shells write it.
		"\ufeff" + `{"token": "` + token1 + `", "last_updated": "2020-01-02T03:04:05.000006Z", "badge": 9, "user_id": "u"}` + "\r",
		``,
		`not JSON`,
		`{"token": "abc"}`,
		`{"user_id": "no token"}`,
		`{"token": "` + token2 + `", "unknown": 1}`,
		`{"token": "` + token2 + `", "last_updated": "2999-01-01T00:00:00Z"}`,
		`{"token": "` + token2 + `", "user_id": "` + strings.Repeat("x", maxLine) + `"}`,
		`{"token": "` + token2 + `", "environment": "sandbox", "tags": ["a"]}`, // without its newline
	}, "\n")
	w := f.call(adminKey, http.MethodPost, "/v1/tokens/import", body, "Content-Type", ndjson)
	wantStatus(t, w, 200)
	got := decode[importBody](t, w)
	refused := make([]int64, 0, len(got.Errors))
	for _, e := range got.Errors {
		refused = append(refused, e.Line)
		if strings.Contains(e.Message, token2) || e.Message == "" {
			t.Errorf("line %d: %q", e.Line, e.Message)
		}
	}
	if got.Lines != 8 || got.Imported != 2 || got.Refused != 6 || !cmp.Equal(refused, []int64{3, 4, 5, 6, 7, 8}) {
		t.Errorf("answer %s", w.Body)
	}
	d := f.devices["hedgehog"][mustToken(t, token1)]
	if d.Badge != 9 || d.UserID != "u" || !d.LastUpdated.Equal(time.Date(2020, 1, 2, 3, 4, 5, 6000, time.UTC)) || d.Environment != push.Production {
		t.Errorf("imported %+v", d)
	}
	if d := f.devices["hedgehog"][mustToken(t, token2)]; d.Environment != push.Sandbox || time.Since(d.LastUpdated) > time.Minute || d.CreatedAt.IsZero() {
		t.Errorf("imported %+v", d)
	}
}

func TestImportThatIsBrokenOff(t *testing.T) {
	t.Parallel()
	var lines bytes.Buffer
	for i := range 2500 {
		fmt.Fprintf(&lines, "{\"token\": \"%064x\"}\n", i)
	}
	t.Run("by the client", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		r, err := http.NewRequest(http.MethodPost, "/v1/tokens/import", &cutReader{*bytes.NewBuffer(lines.Bytes())})
		if err != nil {
			t.Fatal(err)
		}
		p := wantProblem(t, f.do(r), 400, "incomplete-body")
		if p.LinesTaken == nil || *p.LinesTaken != 2000 || len(f.devices["hedgehog"]) != 2000 {
			t.Errorf("taken %v, stored %d: %+v", p.LinesTaken, len(f.devices["hedgehog"]), p)
		}
	})
	t.Run("by the database", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.importFails = 2
		// What comes after the lines that could not be stored is not stored either.
		more := strings.Repeat(lines.String(), 8)
		p := wantProblem(t, f.call(adminKey, http.MethodPost, "/v1/tokens/import", more, "Content-Type", ndjson), 503, "unavailable")
		if p.LinesTaken == nil || *p.LinesTaken != 1000 || len(f.devices["hedgehog"]) != 1000 {
			t.Errorf("taken %v, stored %d", p.LinesTaken, len(f.devices["hedgehog"]))
		}
	})
	t.Run("by who revoked its key", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		rest := io.MultiReader(strings.NewReader(lines.String()), readerFunc(func([]byte) (int, error) {
			f.revoke(t)
			return 0, io.EOF
		}), strings.NewReader(lines.String()))
		r, err := http.NewRequest(http.MethodPost, "/v1/tokens/import", rest)
		if err != nil {
			t.Fatal(err)
		}
		p := wantProblem(t, f.do(r), 401, "unauthorized")
		if p.LinesTaken == nil || *p.LinesTaken != 3000 || len(f.devices["hedgehog"]) != 2500 {
			t.Errorf("taken %v, stored %d: %+v", p.LinesTaken, len(f.devices["hedgehog"]), p)
		}
	})
	t.Run("before it began", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		wantProblem(t, f.call(adminKey, http.MethodPost, "/v1/tokens/import", "a", "Content-Type", "text/csv"), 415, "unsupported-media-type")
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// slowStore is a body while most of which is read the store does nothing.
type slowStore struct {
	bytes.Buffer
	stores *stores
	until  int
	begun  bool
}

func (r *slowStore) Read(p []byte) (int, error) {
	if !r.begun {
		r.begun = true
		r.stores.mu.Lock()
	}
	n, err := r.Buffer.Read(p)
	if r.until -= n; r.until <= 0 && r.until+n > 0 {
		r.stores.mu.Unlock()
	}
	return n, err
}

// What was read while other lines were stored is stored in the tokens' order, however it came.
func TestImportPutsNeighboursTogether(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const lines = 25_000
	body := &slowStore{stores: f.stores}
	for i := range lines {
		fmt.Fprintf(body, "{\"token\": \"%064x\"}\n", i*7919%lines)
		if i == 22_000 {
			body.until = body.Len()
		}
	}
	r, err := http.NewRequest(http.MethodPost, "/v1/tokens/import", body)
	if err != nil {
		t.Fatal(err)
	}
	got := decode[importBody](t, f.do(r))
	if got.Imported != lines || len(f.devices["hedgehog"]) != lines {
		t.Errorf("%+v, stored %d", got, len(f.devices["hedgehog"]))
	}
	var together []push.Device
	for i, run := range f.imports[:6] {
		want := importRun
		if i == 0 {
			want = streamPage
		} else {
			together = append(together, run...)
		}
		if len(run) != want {
			t.Errorf("%d devices in transaction %d", len(run), i)
		}
	}
	if !slices.IsSortedFunc(together, func(a, b push.Device) int { return strings.Compare(string(a.Token), string(b.Token)) }) {
		t.Error("they are not in the tokens' order")
	}
}

func TestExportIsWhatImportTakes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range streamPage + 2 {
		f.call(adminKey, http.MethodPut, fmt.Sprintf("/v1/tokens/%064x", i), `{"user_id": "u", "tags": ["x"], "badge": 3, "locale": "de", "environment": "sandbox"}`)
	}
	w := f.call(adminKey, http.MethodGet, "/v1/tokens/export", "")
	wantStatus(t, w, 200)
	if got := w.Header().Get("Content-Type"); got != ndjson {
		t.Errorf("content type %q", got)
	}
	again := newFixture(t)
	got := decode[importBody](t, again.call(adminKey, http.MethodPost, "/v1/tokens/import", w.Body.String(), "Content-Type", ndjson))
	if got.Imported != streamPage+2 || got.Refused != 0 {
		t.Errorf("import: %+v", got)
	}
	if diff := cmp.Diff(f.devices, again.devices); diff != "" {
		t.Errorf("the devices changed on the way:\n%.2000s", diff)
	}
}

func TestExportThatFailsIsCutOff(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.err = push.ErrUnavailable
	wantProblem(t, f.call(adminKey, http.MethodGet, "/v1/tokens/export", ""), 503, "unavailable")
}

// FuzzRegistration looks for a body that makes the reader panic, or that it and encoding/json understand differently.
func FuzzRegistration(f *testing.F) {
	f.Add(`{"badge": 1, "user_id": "u", "tags": ["a", "\ud83d\ude00"], "environment": "sandbox", "locale": null}`)
	f.Add(`{"badge":1,"badge":2}`)
	f.Add(`[[[{"a":{}}]]]`)
	f.Fuzz(func(t *testing.T, text string) {
		body, err := push.ParseJSON([]byte(text))
		if err != nil {
			return
		}
		rd := registering{app: &App{Platforms: apple("t")}, at: "body"}
		rd.readBody(body, func(string) bool { return false })
		reg := rd.registration
		if rd.err() != nil {
			return
		}
		var want struct {
			Badge  *uint32 `json:"badge"`
			UserID *string `json:"user_id"`
			Locale *string `json:"locale"`
		}
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatalf("taken, but encoding/json says: %v", err)
		}
		if want.Badge != nil && *want.Badge != reg.Badge || want.UserID != nil && *want.UserID != *reg.UserID || want.Locale != nil && *want.Locale != *reg.Locale {
			t.Fatalf("read %+v, encoding/json %+v", reg, want)
		}
	})
}

func TestKindsOfTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for body, where := range map[string]string{
		`{"kind": "pushkit"}`:      "body.kind",
		`{"kind": 5}`:              "body.kind",
		`{"kind": "liveactivity"}`: "body.activity_id",
		`{"kind": "liveactivity", "attributes_type": "x"}`:                     "body.activity_id",
		`{"kind": "liveactivity-start"}`:                                       "body.attributes_type",
		`{"kind": "voip", "activity_id": "x"}`:                                 "body.activity_id",
		`{"activity_id": "x"}`:                                                 "body.kind",
		`{"kind": "liveactivity", "activity_id": "x", "attributes_type": "y"}`: "body.attributes_type",
	} {
		wantProblem(t, f.call(registerKey, http.MethodPut, "/v1/tokens/"+token1, body), 422, "invalid", where)
	}
	for i, c := range []struct{ body, want string }{
		{``, `"kind":"alert","attributes_type":null,"activity_id":null`},
		{`{"kind": null}`, `"kind":"alert","attributes_type":null,"activity_id":null`},
		{`{"kind": "voip"}`, `"kind":"voip","attributes_type":null,"activity_id":null`},
		{`{"kind": "liveactivity", "activity_id": "a"}`, `"kind":"liveactivity","attributes_type":null,"activity_id":"a"`},
		{`{"kind": "liveactivity-start", "attributes_type": "t"}`, `"kind":"liveactivity-start","attributes_type":"t","activity_id":null`},
	} {
		w := f.call(registerKey, http.MethodPut, fmt.Sprintf("/v1/tokens/%064x", i), c.body)
		if !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s", c.body, w.Code, w.Body)
		}
	}
	for members, want := range map[string]push.Kind{
		`"aps": {"alert": "x"}`:                                push.KindAlert,
		`"aps": {"content-available": 1}`:                      push.KindAlert,
		`"aps": {}, "push_type": "voip"`:                       payload.KindVoIP,
		`"aps": {"event": "update", "content-state": {}}`:      payload.KindLiveActivity,
		`"aps": {"event": "start", "attributes-type": "Ride"}`: payload.KindLiveActivityStart,
	} {
		s := f.send(t, sendKey, `"to": {"all": true}, `+members)
		if s.Audience.Kind != want || s.Notification.Kind != want || (s.Audience.KindOf == "Ride") != (want == payload.KindLiveActivityStart) {
			t.Errorf("%s: %+v", members, s.Audience)
		}
	}
}

// What is for another platform is as good as left out where it is null or empty, as elsewhere.
func TestEmptyFieldsOfOtherPlatforms(t *testing.T) {
	t.Parallel()
	for body, faults := range map[string]int{
		`{"kind": "", "activity_id": "", "attributes_type": ""}`: 0, `{"activity_id": null}`: 0, `{"activity_id": "a"}`: 1,
	} {
		rd := registering{app: &App{Platforms: []Platform{&toy{name: "fcm"}}}, at: "body"}
		rd.readBody(push.JSON(body), isPutField)
		if len(rd.faults) != faults {
			t.Errorf("%s: %v", body, rd.faults)
		}
	}
}

// A line may be as long as a registration, however it ends.
func TestTheLongestLine(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"", "\n", "\r\n"} {
		for _, c := range []struct{ length, refused int }{{maxLine, 0}, {maxLine + 1, 1}} {
			f := newFixture(t)
			line := `{"token": "` + token1 + `", "tags": []}`
			line = strings.Replace(line, "[]", "["+strings.Repeat(" ", c.length-len(line))+"]", 1)
			w := f.call(adminKey, http.MethodPost, "/v1/tokens/import", line+end, "Content-Type", ndjson)
			if got := decode[importBody](t, w); got.Refused != int64(c.refused) || got.Lines != 1 {
				t.Errorf("%d bytes and %q: %s", c.length, end, w.Body)
			}
		}
	}
}

// Of the tags that a register key gave those are answered that are stored, and none that it did not give.
func TestAnswersTheTagsThatAreStored(t *testing.T) {
	t.Parallel()
	d := push.Device{Tags: []string{"plan:pro", "x"}}
	onlyGiven(&d, &push.Registration{Tags: &[]string{"x", "y"}})
	if !slices.Equal(d.Tags, []string{"x"}) {
		t.Errorf("answered are %q", d.Tags)
	}
}
