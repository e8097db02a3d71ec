// Command browser has headless Chromium use the page and the service worker of docs/webpush against dev mode: it
// registers through the page, and shows what the service then sends it.
//
//	browser -server bench/bin/server -docs docs/webpush [-chromium /usr/bin/chromium]
//
// Chromium's own push service is Google's, which cannot be reached from everywhere and takes no messages of a
// simulator. So the page subscribes at the simulator, which decrypts what comes, and DevTools hand that to the service
// worker.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/serviceworker"
	"github.com/chromedp/chromedp"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "browser:", err)
		os.Exit(1)
	}
}

func run() error {
	server := flag.String("server", "", "the service's program")
	docs := flag.String("docs", "", "the folder with the page and the service worker")
	chromium := flag.String("chromium", "chromium", "Chromium's program")
	flag.Parse()
	ctx, cancel := context.WithTimeoutCause(context.Background(), 2*time.Minute,
		errors.New("it took longer than two minutes"))
	defer cancel()

	api, simulator, stop, err := startService(ctx, *server)
	if err != nil {
		return err
	}
	defer stop()
	site, closeSite, err := serveSite(*docs, api, simulator)
	if err != nil {
		return err
	}
	defer closeSite()

	allocator, endAllocator := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(*chromium), chromedp.NoSandbox, chromedp.Flag("headless", "new"))...)
	defer endAllocator()
	tab, endTab := chromedp.NewContext(allocator)
	defer endTab()
	v := &visitor{tab: tab, site: site, registrations: make(chan serviceworker.RegistrationID, 16)}
	token, err := v.subscribe()
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	fmt.Println("the page registered", token[:16]+"…")

	for _, test := range []struct{ send, title, body, navigate, data string }{
		{
			`"message": {"title": "On its way", "body": "It will be there tomorrow.", "link": "https://example.com/orders/4711"}, "data": {"order": 4711}`,
			"On its way", "It will be there tomorrow.", "https://example.com/orders/4711", `{"order":4711}`,
		},
		{`"webpush": {"payload": {"title": "Plain JSON", "body": "of the app's own"}}`, "Plain JSON", "of the app's own", "",
			""},
		{`"webpush": {"payload": "a plain text"}`, "Message", "a plain text", "", ""},
	} {
		plaintext, _, err := sendAndReceive(ctx, api, simulator, token, test.send)
		if err != nil {
			return fmt.Errorf("send %s: %w", test.send, err)
		}
		shown, err := v.deliver(plaintext, test.title)
		if err != nil {
			return fmt.Errorf("deliver %s: %w", plaintext, err)
		}
		if shown.Body != test.body || shown.Navigate != test.navigate || string(shown.Data) != test.data {
			return fmt.Errorf("of %s the browser shows %+v", plaintext, shown)
		}
		fmt.Printf("%s is shown as %q, %q\n", plaintext, test.title, shown.Body)
	}
	return checkReceipts(ctx, v, api, simulator, token)
}

// click hands a click on a notification of the data to the service worker's own code, which the page runs with a worker's
// surroundings: of the browser's own clicks DevTools have none.
const click = `(async data => {
	const handlers = {}, opened = [];
	const worker = {
		addEventListener: (name, handle) => { handlers[name] = handle; },
		clients: {openWindow: async url => { opened.push(url); }},
	};
	new Function("self", await (await fetch("sw.js")).text())(worker);
	let done;
	handlers.notificationclick({notification: {data, close: () => {}}, action: "", waitUntil: promise => { done = promise; }});
	await done;
	return opened.join();
})(%s)`

// checkReceipts has the service worker tell that a notification came, and that it was opened.
func checkReceipts(ctx context.Context, v *visitor, api, simulator, token string) error {
	plaintext, id, err := sendAndReceive(ctx, api, simulator, token,
		`"message": {"title": "With a receipt", "link": "https://example.com/"}, "receipts": true`)
	if err != nil {
		return fmt.Errorf("send with receipts: %w", err)
	}
	shown, err := v.deliver(plaintext, "With a receipt")
	if err != nil {
		return fmt.Errorf("deliver %s: %w", plaintext, err)
	}
	if err := awaitReceipts(ctx, api, id, 1, 0); err != nil {
		return err
	}
	opened, err := chromedp.Run(v.tab, chromedp.Evaluate[string](fmt.Sprintf(click, shown.All), chromedp.EvalAwaitPromise))
	if err != nil {
		return fmt.Errorf("click: %w", err)
	}
	if opened != "https://example.com/" {
		return fmt.Errorf("a click opened %q", opened)
	}
	if err := awaitReceipts(ctx, api, id, 1, 1); err != nil {
		return err
	}
	fmt.Println("the service worker told that it was delivered, and opened")
	return nil
}

// awaitReceipts waits until the notification has these counts.
func awaitReceipts(ctx context.Context, api, id string, delivered, opened int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		var status struct {
			Receipts struct{ Delivered, Opened int }
		}
		if err := call(ctx, http.MethodGet, api+"/v1/notifications/"+id, nil, &status); err != nil {
			return fmt.Errorf("receipts are not %d and %d: %w", delivered, opened, err)
		}
		if status.Receipts.Delivered == delivered && status.Receipts.Opened == opened {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("receipts are %+v, not %d and %d", status.Receipts, delivered, opened)
		case <-ticker.C:
		}
	}
}

// startService starts dev mode in a folder of its own, and gives the addresses of its API and of the simulator's page.
func startService(ctx context.Context, program string) (api, simulator string, stop func(), err error) {
	program, err = filepath.Abs(program)
	if err != nil {
		return "", "", nil, err
	}
	dir, err := os.MkdirTemp("", "lhspn-browser")
	if err != nil {
		return "", "", nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "LHSPN_LISTEN=127.0.0.1:0", "LHSPN_OPS_LISTEN=127.0.0.1:0", "LHSPN_LOG_LEVEL=warn")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return "", "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	lines := bufio.NewScanner(out)
	for (api == "" || simulator == "") && lines.Scan() {
		switch fields := strings.Fields(lines.Text()); {
		case len(fields) >= 2 && fields[0] == "API" && strings.HasPrefix(fields[1], "http"):
			api = fields[1]
		case len(fields) >= 2 && fields[0] == "simulator":
			simulator = strings.TrimSuffix(fields[1], "/")
		}
	}
	if simulator == "" {
		stop()
		return "", "", nil, errors.New("the service does not say where it is")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return api, simulator, stop, nil
}

// serveSite serves the page as a website does that passes the API's paths on.
func serveSite(docs, api, simulator string) (site string, stop func(), err error) {
	proxy := func(to string) (http.Handler, error) {
		u, err := url.Parse(to)
		if err != nil {
			return nil, err
		}
		return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}, nil
	}
	toAPI, err := proxy(api)
	if err != nil {
		return "", nil, err
	}
	toSimulator, err := proxy(simulator)
	if err != nil {
		return "", nil, err
	}
	html, err := os.ReadFile(filepath.Join(docs, "index.html"))
	if err != nil {
		return "", nil, err
	}
	for _, change := range [][2]string{{`"hedgehog"`, `"default"`}, {"lhspn_REGISTER_KEY", "lhspn-dev-key"}} {
		if !bytes.Contains(html, []byte(change[0])) {
			return "", nil, fmt.Errorf("the page has no %s to fill in", change[0])
		}
		html = bytes.ReplaceAll(html, []byte(change[0]), []byte(change[1]))
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", toAPI)
	mux.Handle("/simulator/", http.StripPrefix("/simulator", toSimulator))
	mux.Handle("/", http.FileServer(http.Dir(docs)))
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(html)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return "http://localhost:" + port, func() { _ = server.Close() }, err // localhost is a secure context without TLS
}

// visitor is somebody who visits the page.
type visitor struct {
	tab           context.Context
	site          string
	registrations chan serviceworker.RegistrationID
	registration  serviceworker.RegistrationID
}

// atTheSimulator replaces the one thing that needs the outside world.
const atTheSimulator = `PushManager.prototype.subscribe = async ({userVisibleOnly, applicationServerKey}) => {
	if (!userVisibleOnly) throw new Error("a browser would refuse that");
	const answer = await fetch("/simulator/webpush/subscribe", {
		method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({applicationServerKey}),
	});
	const subscription = await answer.json();
	return {toJSON: () => subscription};
};`

// subscribe presses the button, and gives the device token that the page then shows.
func (v *visitor) subscribe() (token string, err error) {
	err = chromedp.Listen(v.tab, func(event any) {
		if e, ok := event.(*serviceworker.EventWorkerRegistrationUpdated); ok {
			for _, r := range e.Registrations {
				if !r.IsDeleted {
					select {
					case v.registrations <- r.RegistrationID:
					default: // the first is enough
					}
				}
			}
		}
	})
	if err != nil {
		return "", err
	}
	err = chromedp.Do(v.tab,
		chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			_, err := cdp.Call(ctx, t, cdpbrowser.SetPermission, cdpbrowser.SetPermissionParams{
				Origin: v.site, Permission: &cdpbrowser.PermissionDescriptor{Name: "notifications"},
				Setting: cdpbrowser.PermissionSettingGranted,
			})
			if err == nil {
				_, err = cdp.Call(ctx, t, serviceworker.Enable, cdp.Empty{})
			}
			if err == nil {
				_, err = cdp.Call(ctx, t, page.AddScriptToEvaluateOnNewDocument,
					page.AddScriptToEvaluateOnNewDocumentParams{Source: atTheSimulator})
			}
			return err
		}),
		chromedp.Navigate(v.site+"/"),
		chromedp.Click(chromedp.CSS("#subscribe")),
	)
	if err == nil {
		token, err = chromedp.Run(v.tab, chromedp.Poll[string](`document.getElementById("state").value`))
	}
	if err == nil && !strings.HasPrefix(token, "webpush:") {
		err = fmt.Errorf("the page says %q", token)
	}
	if err != nil {
		return "", err
	}
	select {
	case v.registration = <-v.registrations:
		return token, nil
	case <-v.tab.Done():
		return "", context.Cause(v.tab)
	}
}

// notification is what the browser shows.
type notification struct {
	Title, Body, Navigate string
	Data                  json.RawMessage
	All                   json.RawMessage // that the service worker keeps with it
}

// deliver hands the plaintext to the service worker, waits until a notification with the title is shown, and closes it.
func (v *visitor) deliver(plaintext, title string) (n notification, err error) {
	const find = `(async title => {
		const worker = await navigator.serviceWorker.ready;
		const shown = (await worker.getNotifications()).find(n => n.title === title);
		shown?.close();
		return shown && {Title: shown.title, Body: shown.body, Navigate: shown.data.navigate ?? "", Data: shown.data.data, All: shown.data};
	})(%q)`
	ctx, cancel := context.WithTimeout(v.tab, 20*time.Second)
	defer cancel()
	deliver := chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, serviceworker.DeliverPushMessage, serviceworker.DeliverPushMessageParams{
			Origin: v.site, RegistrationID: v.registration, Data: plaintext,
		})
		return err
	})
	if err := chromedp.Do(ctx, deliver); err != nil {
		return n, err
	}
	ticker := time.NewTicker(200 * time.Millisecond) // asked again and again at once, Chromium shows nothing
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return n, context.Cause(ctx)
		case <-ticker.C:
		}
		text, err := chromedp.Run(ctx, chromedp.Evaluate[[]byte](fmt.Sprintf(find, title), chromedp.EvalAwaitPromise))
		if err != nil {
			return n, err
		}
		if len(text) > 0 && text[0] == '{' {
			return n, json.Unmarshal(text, &n)
		}
	}
}

// sendAndReceive sends to the token, and gives what the simulator decrypted, and the notification's id.
func sendAndReceive(ctx context.Context, api, simulator, token, content string) (plaintext, id string, err error) {
	body := fmt.Sprintf(`{"to": {"tokens": [%q]}, %s}`, token, content)
	if err := call(ctx, http.MethodPost, simulator+"/reset", nil, nil); err != nil {
		return "", "", err
	}
	var accepted struct{ ID string }
	if err := call(ctx, http.MethodPost, api+"/v1/notifications", []byte(body), &accepted); err != nil {
		return "", "", err
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		var received struct {
			Notifications []struct{ Payload, Verdict string }
		}
		if err := call(ctx, http.MethodGet, simulator+"/tokens/"+url.PathEscape(token), nil, &received); err != nil {
			return "", "", err
		}
		if list := received.Notifications; len(list) > 0 {
			if list[0].Verdict != "accepted" {
				return "", "", fmt.Errorf("the simulator's verdict is %s", list[0].Verdict)
			}
			return list[0].Payload, accepted.ID, nil
		}
		select {
		case <-ctx.Done():
			return "", "", context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

func call(ctx context.Context, method, at string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer lhspn-dev-key")
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case answer.StatusCode >= 300:
		return fmt.Errorf("%s %s: %d %s", method, at, answer.StatusCode, text)
	case into == nil:
		return nil
	}
	return json.Unmarshal(text, into)
}
