package fcm

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
)

// TestMessageIDsInTheLog: at debug the log has what FCM calls each message, and no more of its device than a part.
func TestMessageIDsInTheLog(t *testing.T) {
	t.Parallel()
	for level, lines := range map[slog.Level]int{slog.LevelDebug: 2, slog.LevelInfo: 0} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			r := newLoggingRig(t, newFakeFCM(func(a arrival) reply {
				if a.target == "token dead:APA91b-of-a-device" {
					return reply{404, nil, failure(404, "NOT_FOUND", "", fcmError("UNREGISTERED"))}
				}
				return acceptedReply
			}), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level})), nil)
			r.send(t, group(hello(t, nil), "one:APA91b-of-a-device", "dead:APA91b-of-a-device", "two:APA91b-of-a-device"))
			r.stop()
			if n := strings.Count(log.String(), "message_id=1"); n != lines || strings.Contains(log.String(), "of-a-device") {
				t.Errorf("at %v: %d lines of %q", level, n, log.String())
			}
		})
	}
}

func TestMessageID(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"name": "projects/hedgehog-4711/messages/0:1500415314455276%31bd1c96"}`: "0:1500415314455276%31bd1c96",
		`{"name": "1"}`: "1",
		`{"name": 1}`:   "",
		`<html>`:        "",
		``:              "",
	} {
		if got := messageID([]byte(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}
