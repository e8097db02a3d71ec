// Command console has headless Chromium walk the operators' console of dev mode, with real notifications under way: it
// looks at every part, signs in, acts, and checks each page with axe-core, light and dark, wide and 320 pixels narrow.
//
//	console -server bin/server -axe node_modules/axe-core/axe.min.js [-chromium /usr/bin/chromium] [-pictures docs/console]
//
// It fails where axe-core finds something serious or critical, where the page asks another host for anything, where the
// browser reports an error, the Content-Security-Policy's among them, and where a narrow page is wider than the screen.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "console:", err)
		os.Exit(1)
	}
}

func run() error {
	program := flag.String("server", "", "the service's program")
	axe := flag.String("axe", "", "axe-core's script")
	chromium := flag.String("chromium", "chromium", "Chromium's program")
	pictures := flag.String("pictures", "", "the folder that screenshots are written to; empty: none are")
	flag.Parse()
	ctx, cancel := context.WithTimeoutCause(context.Background(), 4*time.Minute,
		errors.New("it took longer than four minutes"))
	defer cancel()
	script, err := os.ReadFile(*axe)
	if err != nil {
		return err
	}
	s, err := startService(ctx, *program)
	if err != nil {
		return err
	}
	defer s.stop()
	allocator, endAllocator := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(*chromium), chromedp.NoSandbox, chromedp.Flag("headless", "new"))...)
	defer endAllocator()
	tab, endTab := chromedp.NewContext(allocator)
	defer endTab()
	v := &visitor{service: s, tab: tab, axe: string(script), pictures: *pictures}
	if err := v.watch(); err != nil {
		return err
	}
	if err := v.walk(ctx); err != nil {
		return errors.Join(err, v.complaints())
	}
	return v.complaints()
}

// visitor is somebody with a browser.
type visitor struct {
	*service
	tab      context.Context
	axe      string
	pictures string

	mu       sync.Mutex
	problems []string
}

func (v *visitor) complain(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if text := fmt.Sprintf(format, args...); len(v.problems) < 50 {
		v.problems = append(v.problems, text)
	}
}

func (v *visitor) complaints() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(v.problems, "\n"))
}

// watch complains of what the browser reports, and of requests that leave the console's host.
func (v *visitor) watch() error {
	err := chromedp.Listen(v.tab, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, v.host+"/console") && !strings.HasPrefix(e.Request.URL, "data:") {
				v.complain("a request to %s", e.Request.URL)
			}
		case *runtime.EventExceptionThrown:
			v.complain("exception: %s %s", e.ExceptionDetails.Text, e.ExceptionDetails.URL)
		case *log.EventEntryAdded:
			// An answer of 401, 403 and 422 is what the walk provokes.
			if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
				v.complain("the browser says: %s", e.Entry.Text)
			}
		}
	})
	if err != nil {
		return err
	}
	return chromedp.Do(v.tab, enable())
}

func enable() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
		return err
	})
}

// look shows the page as a screen of that size and colours does.
func (v *visitor) look(width, height int64, scheme string) error {
	return chromedp.Do(v.tab, chromedp.EmulateViewport(width, height),
		chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme},
					{Name: "prefers-reduced-motion", Value: "reduce"}},
			})
			return err
		}))
}

// until waits for the expression to be true in the page.
func (v *visitor) until(what, expression string) error {
	ctx, cancel := context.WithTimeout(v.tab, 40*time.Second)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if err == nil && ok {
			return nil
		}
		select {
		case <-ctx.Done():
			text, _ := chromedp.Run(v.tab, chromedp.Evaluate[string]("document.body?.innerText.replace(/\\s+/g, ' ').slice(0, 4000) ?? ''"))
			return fmt.Errorf("it is not so that %s (%v); the page says:\n%s", what, err, text)
		case <-ticker.C:
		}
	}
}

// has is an expression: that the section has the text.
func has(section, text string) string {
	quoted, _ := json.Marshal(text)
	return fmt.Sprintf("document.querySelector('#%s')?.innerText.includes(%s)", section, quoted)
}

// widest names what reaches over the screen's edge; empty where nothing does.
const widest = `document.documentElement.scrollWidth <= innerWidth ? "" : document.documentElement.scrollWidth + ": " +
	[...document.querySelectorAll("body *")]
	.filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.parentElement.closest(".scroll, pre, header nav"))
	.map(e => e.tagName + "." + e.className + "#" + e.id + " " + Math.round(e.getBoundingClientRect().right)).slice(0, 8).join(", ")`

// check has axe-core examine the page, and sees whether it is wider than the screen.
func (v *visitor) check(where string) error {
	const examine = `(async () => {
		const found = await axe.run(document, {resultTypes: ["violations"]});
		return JSON.stringify(found.violations.filter(v => v.impact === "serious" || v.impact === "critical")
			.map(v => v.id + ": " + v.help + " at " + v.nodes.slice(0, 3).map(n => n.target + " " + n.html.slice(0, 160)).join(" and ")));
	})()`
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 320} {
			if err := v.look(width, 900, scheme); err != nil {
				return err
			}
			if err := chromedp.Do(v.tab, chromedp.Sleep(300*time.Millisecond)); err != nil { // plots are drawn anew
				return err
			}
			text, err := chromedp.Run(v.tab, chromedp.Evaluate[string](v.axe+";\n"+examine, chromedp.EvalAwaitPromise))
			if err != nil {
				return fmt.Errorf("axe-core: %w", err)
			}
			var found []string
			if err := json.Unmarshal([]byte(text), &found); err != nil {
				return fmt.Errorf("axe-core: %w", err)
			}
			for _, f := range found {
				v.complain("%s, %s, %d wide: %s", where, scheme, width, f)
			}
			over, err := chromedp.Run(v.tab, chromedp.Evaluate[string](widest))
			if err != nil {
				return err
			}
			if over != "" {
				v.complain("%s, %s: the page is wider than a screen of %d: %s", where, scheme, width, over)
			}
		}
	}
	fmt.Println("examined:", where)
	return v.look(1280, 900, "light")
}

// picture writes a screenshot of what is shown, or of one element.
func (v *visitor) picture(name, selector string) error {
	if v.pictures == "" {
		return nil
	}
	action := chromedp.CaptureScreenshot()
	if selector != "" {
		action = chromedp.Screenshot(chromedp.CSS(selector))
	} else if err := chromedp.Do(v.tab, chromedp.Evaluate[chromedp.Void]("scrollTo(0, 0)")); err != nil {
		return err
	}
	picture, err := chromedp.Run(v.tab, action)
	if err != nil {
		return fmt.Errorf("picture %s: %w", name, err)
	}
	if picture, err = shrink(picture); err != nil {
		return err
	}
	fmt.Printf("picture: %s, %d KB\n", name, len(picture)/1000)
	return os.WriteFile(filepath.Join(v.pictures, name+".png"), picture, 0o644)
}

// walk looks at every part, and acts.
func (v *visitor) walk(ctx context.Context) error {
	open := chromedp.Navigate(v.host + "/console")
	if err := v.look(1280, 900, "light"); err != nil {
		return err
	}
	if err := chromedp.Do(v.tab, open); err != nil {
		return err
	}
	if err := v.until("a console says what to do first", has("overview", "curl")); err != nil {
		return err
	}
	if err := v.check("empty"); err != nil {
		return err
	}
	if err := v.send(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{v.signIn, v.addApp, v.watchPlots, v.lookUp, v.testPush, v.cancel,
		v.signOut} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// signIn is by keyboard alone.
func (v *visitor) signIn(context.Context) error {
	focused := func(selector string) string { return fmt.Sprintf("document.activeElement?.matches(%q)", selector) }
	if err := chromedp.Do(v.tab, chromedp.Navigate(v.host+"/console")); err != nil {
		return err
	}
	for range 20 {
		at, err := chromedp.Run(v.tab, chromedp.Evaluate[bool](focused(".who summary")))
		if err != nil {
			return err
		}
		if at {
			break
		}
		if err := chromedp.Do(v.tab, chromedp.KeyEvent(kb.Tab)); err != nil {
			return err
		}
	}
	if err := chromedp.Do(v.tab, chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Tab)); err != nil {
		return err
	}
	if err := v.until("the keyboard leads to the field for the key", focused("#key")); err != nil {
		return err
	}
	if err := v.check("signing in"); err != nil {
		return err
	}
	if err := chromedp.Do(v.tab, chromedp.Focus(chromedp.CSS("#key")), chromedp.KeyEvent(v.operatorKey+kb.Enter)); err != nil {
		return err
	}
	if err := v.until("somebody has signed in", "document.querySelector('.who')?.innerText.includes('Sign out')"); err != nil {
		return err
	}
	cookie, err := chromedp.Run(v.tab, chromedp.Evaluate[string]("document.cookie"))
	if err == nil && cookie != "" {
		v.complain("a script can read the cookie")
	}
	return err
}

// addApp adds an app whose gateway cannot be reached, first with something wrong.
func (v *visitor) addApp(context.Context) error {
	key, err := v.signingKey()
	if err != nil {
		return err
	}
	field := func(name, value string) chromedp.Action[chromedp.Void] {
		return chromedp.SetValue(chromedp.CSS("#f-"+name), value)
	}
	err = chromedp.Do(v.tab, chromedp.Navigate(v.host+"/console?new=1#apps"), chromedp.WaitVisible(chromedp.CSS("#f-name")),
		chromedp.Click(chromedp.CSS(`[name="on.apns"]`)), field("name", "otter"), field("apns-topic", "com.example.otter"),
		field("apns-key_id", "SHORT"), field("apns-team_id", "TEAM123456"), field("apns-gateway", "127.0.0.1:9"),
		chromedp.SetUploadFiles(chromedp.CSS("#f-apns-key"), []string{key}), chromedp.Click(chromedp.CSS(".editor > button")))
	if err != nil {
		return fmt.Errorf("add an app: %w", err)
	}
	if err := v.until("what is wrong stands at its field", "document.querySelector('.field.wrong #f-apns-key_id')"); err != nil {
		return err
	}
	if err := v.check("a wrong app"); err != nil {
		return err
	}
	err = chromedp.Do(v.tab, field("apns-key_id", "KEY1234567"),
		chromedp.SetUploadFiles(chromedp.CSS("#f-apns-key"), []string{key}), chromedp.Click(chromedp.CSS(".editor > button")))
	if err != nil {
		return err
	}
	if err := v.until("the app is added", "document.querySelector('.flash.good')?.innerText.includes('otter is added')"); err != nil {
		return err
	}
	err = chromedp.Do(v.tab, field2("#k-name", "backend"), chromedp.Click(chromedp.CSS(`[action="/console/add-key"] button`)))
	if err != nil {
		return err
	}
	if err := v.until("the key is shown", "document.querySelector('.secret')?.innerText.startsWith('lhspn_send_')"); err != nil {
		return err
	}
	secret, err := chromedp.Run(v.tab, chromedp.Evaluate[string]("document.querySelector('.secret').innerText"))
	if err != nil {
		return err
	}
	if err := v.sendTo(secret); err != nil { // to a gateway that nothing reaches
		return err
	}
	if err := v.check("an app"); err != nil {
		return err
	}
	// The key is for one pair of eyes: the picture is of the page after it.
	err = chromedp.Do(v.tab, chromedp.Navigate(v.host+"/console?edit=otter#apps"), chromedp.WaitVisible(chromedp.CSS("#f-apns-topic")))
	if err != nil {
		return err
	}
	return v.picture("app", "#apps .detail")
}

func field2(selector, value string) chromedp.Action[chromedp.Void] {
	return chromedp.SetValue(chromedp.CSS(selector), value)
}

// watchPlots waits until there is something to see.
func (v *visitor) watchPlots(ctx context.Context) error {
	if err := v.broadcast(ctx); err != nil {
		return err
	}
	if err := chromedp.Do(v.tab, chromedp.Navigate(v.host+"/console")); err != nil {
		return err
	}
	for what, expression := range map[string]string{
		"the plots are drawn":              "document.querySelectorAll('#plots canvas').length === 3",
		"the legend has the routes":        "document.querySelector('#plots .legend')?.innerText.includes('production')",
		"a broadcast fills up":             "document.querySelector('#notifications .bar .accepted')",
		"the gateway is said to be away":   has("routes", "gateway not reached"),
		"what helps is said":               has("routes", "server doctor"),
		"the broadcast is in the list":     has("notifications", "Spring sale"),
		"the decision of a pass is listed": has("feedback", "removed"),
	} {
		if err := v.until(what, expression); err != nil {
			return err
		}
	}
	before, err := chromedp.Run(v.tab, chromedp.Evaluate[string]("document.querySelector('#notifications').innerText"))
	if err != nil {
		return err
	}
	quoted, _ := json.Marshal(before)
	if err := v.until("the list refreshes by itself", fmt.Sprintf("document.querySelector('#notifications').innerText !== %s", quoted)); err != nil {
		return err
	}
	for _, by := range []string{"lane", "app", "route"} {
		err := chromedp.Do(v.tab, chromedp.Evaluate[chromedp.Void](fmt.Sprintf("[...document.querySelectorAll('#plots .tabs a')].find(a => a.innerText === %q).click()", by)))
		if err != nil {
			return err
		}
		want := map[string]string{"lane": "bulk", "app": "default", "route": "fcm"}[by]
		if err := v.until("there are lines by "+by, fmt.Sprintf("document.querySelector('#plots .legend')?.innerText.includes(%q)", want)); err != nil {
			return err
		}
	}
	if err := v.check("everything"); err != nil {
		return err
	}
	if err := v.until("the plots are drawn again", "document.querySelectorAll('#plots canvas').length === 3"); err != nil {
		return err
	}
	if err := v.picture("light", ""); err != nil {
		return err
	}
	if err := v.look(1280, 900, "dark"); err != nil {
		return err
	}
	if err := chromedp.Do(v.tab, chromedp.Sleep(500*time.Millisecond)); err != nil {
		return err
	}
	if err := v.picture("dark", ""); err != nil {
		return err
	}
	if err := v.look(320, 700, "light"); err != nil {
		return err
	}
	if err := chromedp.Do(v.tab, chromedp.Sleep(500*time.Millisecond)); err != nil {
		return err
	}
	if err := v.picture("narrow", ""); err != nil {
		return err
	}
	// What follows looks for the broadcast in the list.
	return errors.Join(v.quiet(), v.look(1280, 900, "light"))
}

// lookUp looks up a token that is gone, and sees why.
func (v *visitor) lookUp(context.Context) error {
	err := chromedp.Do(v.tab, field2("#written", strings.ToUpper(v.dead)), chromedp.Click(chromedp.CSS("#tokens .look-up button")))
	if err != nil {
		return err
	}
	for _, text := range []string{"not registered", "Why it is not there", "removed", "status 410"} {
		if err := v.until("a dead token's story says "+text, has("tokens", text)); err != nil {
			return err
		}
	}
	shown, err := chromedp.Run(v.tab, chromedp.Evaluate[bool](fmt.Sprintf("(location.href + document.documentElement.outerHTML).toLowerCase().includes(%q)", v.dead)))
	if err != nil {
		return err
	}
	if shown {
		v.complain("a whole device token is in the page, or in its address")
	}
	if err := v.check("a token that is gone"); err != nil {
		return err
	}
	return v.picture("token", "#tokens")
}

// testPush sends one to a device, and sees it accepted.
func (v *visitor) testPush(context.Context) error {
	err := chromedp.Do(v.tab, chromedp.Navigate(v.host+"/console"), field2("#written", v.demo), chromedp.Click(chromedp.CSS("#tokens .look-up button")))
	if err != nil {
		return err
	}
	if err := v.until("the token is found", has("tokens", "registered last")); err != nil {
		return err
	}
	if err := chromedp.Do(v.tab, chromedp.Click(chromedp.CSS(`[action="/console/test-push"] button`))); err != nil {
		return err
	}
	if err := v.until("the test push is accepted", has("notifications", "test push from the console")); err != nil {
		return err
	}
	if err := v.until("it is done", "document.querySelector('#notifications .detail')?.innerText.includes('done')"); err != nil {
		return err
	}
	if err := v.check("a test push"); err != nil {
		return err
	}
	received, err := v.received(v.demo)
	if err == nil && !strings.Contains(received, "from the LHSPN console") {
		v.complain("the simulator has not got the test push: %s", received)
	}
	return err
}

// cancel cancels what is scheduled, and looks at a broadcast's failures.
func (v *visitor) cancel(context.Context) error {
	choose := func(name string) chromedp.Action[chromedp.Void] {
		return chromedp.Evaluate[chromedp.Void](fmt.Sprintf("[...document.querySelectorAll('#notifications td.what a')].find(a => a.innerText.includes(%q)).click()", name))
	}
	if err := chromedp.Do(v.tab, chromedp.Navigate(v.host+"/console?state=scheduled&app=default#notifications")); err != nil {
		return err
	}
	if err := v.until("the scheduled one is listed", has("notifications", "Summer sale")); err != nil {
		return err
	}
	if err := chromedp.Do(v.tab, choose("Summer sale")); err != nil {
		return err
	}
	if err := v.until("it can be cancelled", "document.querySelector('[action=\"/console/cancel\"]')"); err != nil {
		return err
	}
	if err := chromedp.Do(v.tab, chromedp.Click(chromedp.CSS(`[action="/console/cancel"] button`))); err != nil {
		return err
	}
	if err := v.until("it is cancelled", "document.querySelector('.flash.good')?.innerText.includes('cancelled')"); err != nil {
		return err
	}
	if err := chromedp.Do(v.tab, chromedp.Navigate(v.host+"/console?app=default#notifications")); err != nil {
		return err
	}
	if err := v.until("the broadcast is listed", has("notifications", "Spring sale")); err != nil {
		return err
	}
	if err := chromedp.Do(v.tab, choose("Spring sale")); err != nil {
		return err
	}
	if err := v.until("failures are counted by reason", has("notifications", "BadDeviceToken")); err != nil {
		return err
	}
	if err := v.check("a broadcast"); err != nil {
		return err
	}
	return v.picture("notification", "#notifications .detail")
}

func (v *visitor) signOut(context.Context) error {
	if err := chromedp.Do(v.tab, chromedp.Click(chromedp.CSS(".who button"))); err != nil {
		return err
	}
	return v.until("nobody is signed in", "document.querySelector('.who')?.innerText.includes('Sign in')")
}
