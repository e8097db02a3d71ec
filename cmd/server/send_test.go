package main

import (
	"strings"
	"testing"

	"github.com/lhspn/lhspn/internal/fcm"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/webpush"
)

// Hints are in the words of the service that the token is of.
func TestHintsAreOfTheService(t *testing.T) {
	t.Parallel()
	apple := []string{"APNs", "Apple's gateway", "provider token", "topic and", "key_id", "team_id", "certificate's environment"}
	for platform, reasons := range map[string][]*push.Reason{fcm.Name: fcm.Reasons(), webpush.Name: webpush.Reasons()} {
		for _, reason := range append(reasons, push.ConnectionLost, push.NoAnswer, push.UnknownReason, nil) {
			for _, outcome := range []push.Outcome{push.Failed, push.Unregistered, push.Retry, push.NotSent, push.Blocked} {
				got := hint(platform, push.Result{Outcome: outcome, Reason: reason, Status: 400})
				for _, word := range apple {
					if strings.Contains(got, word) && reason != fcm.ThirdPartyAuthError { // which is about the project's APNs key
						t.Errorf("%s, %s, %s: %s", platform, reason, outcome, got)
					}
				}
				if reason == push.ConnectionLost && outcome == push.NotSent && !strings.Contains(got, "could not be reached") ||
					reason == fcm.Unregistered && outcome == push.Unregistered && !strings.Contains(got, "no longer on that device") ||
					reason == webpush.Gone && outcome == push.Unregistered && !strings.Contains(got, "unsubscribed") ||
					reason != nil && reason.Remedy != "" && !strings.Contains(got, reason.Remedy) {
					t.Errorf("%s, %s, %s: %q", platform, reason, outcome, got)
				}
			}
		}
	}
	if got := hint(push.DefaultPlatform, push.Result{Outcome: push.Blocked}); !strings.Contains(got, "team_id") {
		t.Errorf("of APNs: %q", got)
	}
}
