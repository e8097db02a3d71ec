package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tailed is what a process of tail has printed.
type tailed struct {
	lines  *json.Decoder
	stderr *lockedBuffer
}

// program is a command of the program beside the service; one that does not end by itself ends with the test.
func (r *rig) program(command string, arguments ...string) *exec.Cmd {
	return exec.CommandContext(r.t.Context(), filepath.Join(r.dir, "server"),
		append([]string{command, "--config", r.file}, arguments...)...)
}

// tail starts server tail, which ends with the test.
func (r *rig) tail(arguments ...string) *tailed {
	r.t.Helper()
	cmd := r.program("tail", arguments...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	printed := &tailed{json.NewDecoder(out), new(lockedBuffer)}
	cmd.Stderr = printed.stderr
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return printed
}

// next is the notification that the next line tells of.
func (p *tailed) next(t *testing.T) string {
	t.Helper()
	var line struct {
		Type string
		At   time.Time
		Data struct{ ID string }
	}
	if err := p.lines.Decode(&line); err != nil || line.Type != "notification.done" || line.At.IsZero() {
		t.Fatalf("%v: %+v\n%s", err, line, p.stderr)
	}
	return line.Data.ID
}

// sent is a notification to one device that is done.
func (r *rig) sent() string {
	r.t.Helper()
	n := r.call("POST", "/v1/notifications", fmt.Sprintf(`{"to": {"tokens": ["%s"]}, "aps": {"alert": "Hello"}}`, token(1)), 202)
	id := n["id"].(string)
	r.done(id)
	return id
}

// tail prints what comes while the service runs, on SQLite too, and goes on where that was killed, or stopped, and
// started again.
func TestTail(t *testing.T) {
	t.Parallel()
	eachOnce(t, func(t *testing.T, r *rig) {
		r.start()
		r.sent()
		var cursor string
		r.until("the first is told", func() bool {
			items, next := r.events("")
			cursor = next
			return len(items) > 0
		})
		printed := r.tail("--app", "hedgehog", "--after", cursor, "--types", "notification.done")
		want := []string{r.sent()}
		if got := printed.next(t); got != want[0] {
			t.Errorf("%s, want %s\n%s", got, want[0], printed.stderr)
		}
		for _, end := range []func(){r.kill, r.stop} {
			want = []string{r.sent(), r.sent()}
			end()
			r.start()
			want = append(want, r.sent())
			for _, id := range want {
				if got := printed.next(t); got != id {
					t.Fatalf("%s, want %s\n%s", got, id, printed.stderr)
				}
			}
		}
	})
}

// What tail is asked for and cannot give it says at once.
func TestTailOfNothing(t *testing.T) {
	t.Parallel()
	eachOnce(t, func(t *testing.T, r *rig) {
		r.withOperator()
		r.start()
		r.as(operatorKey).call("PUT", "/v1/apps/fox", r.entry(""), 201) // an app that the file does not have
		for want, arguments := range map[string][]string{
			"--app NAME is missing":        nil,
			`--app: there is no app "owl"`: {"--app", "owl"},
			"no cursor":                    {"--app", "hedgehog", "--after", "x"},
			`there is no type "x"`:         {"--app", "hedgehog", "--types", "x"},
		} {
			out, err := r.program("tail", arguments...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), want) {
				t.Errorf("%q: %v, %s", arguments, err, out)
			}
		}
		out, err := r.program("webhook-test").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "--app NAME is missing") {
			t.Errorf("webhook-test: %v, %s", err, out)
		}
	})
}
