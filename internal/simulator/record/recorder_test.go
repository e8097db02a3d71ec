package record

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

func newTest(level Level, recent int) *Recorder {
	return New(level, recent, true, func(v Verdict) string { return fmt.Sprint("reason ", int(v)) },
		func(b []byte) push.Token { return push.TextToken("fcm", string(b)) })
}

// Tokens of 32 bytes and of every other length are kept apart, and counted alike.
func TestCountsByToken(t *testing.T) {
	t.Parallel()
	for _, level := range []Level{All, PerToken, Sums} {
		r := newTest(level, 3)
		var tally Tally
		short, long := []byte("a"), []byte(strings.Repeat("b", 32))
		for i := range 4 {
			for _, token := range [][]byte{short, long} {
				v := Accepted
				if i == 3 {
					v = 7
				}
				tally[v]++
				r.Record(&Incoming{Transport: FCM, Token: token, Payload: fmt.Append(nil, i), ID: fmt.Append(nil, string(token), i%2)}, v)
			}
		}
		r.Add(&tally)
		want, kept := Counts{Received: 4, Accepted: 3}, 0
		switch level {
		case All:
			kept = 3
		case Sums:
			want = Counts{}
		case PerToken:
		}
		seen := 0
		r.EachCount(func(token push.Token, c Counts) bool {
			seen++
			return c == want && r.CountsOf(token) == want
		})
		if got := r.CountsOf("fcm:a"); got != want || level != Sums && seen != 2 {
			t.Errorf("level %d: %+v, %d tokens", level, got, seen)
		}
		if totals := r.Totals(); totals.Received != 8 || totals.Accepted != 6 || totals.Verdicts["reason 7"] != 2 || totals.IDsRepeated != 2 {
			t.Errorf("level %d: %+v", level, totals)
		}
		list := r.Recent("", 10)
		if len(list) != kept {
			t.Errorf("level %d: %d are kept", level, len(list))
		}
		if kept > 0 && (list[0].Verdict != "reason 7" || list[0].Token != push.TextToken("fcm", string(long)) || list[0].Payload != "3" || list[2].Payload != "2") {
			t.Errorf("%+v", list)
		}
		r.Reset()
		if totals := r.Totals(); totals.Received != 0 || len(r.Recent("", 10)) != 0 || r.CountsOf("fcm:a") != (Counts{}) {
			t.Errorf("level %d, after a reset: %+v", level, totals)
		}
	}
}

func TestOnceAndSince(t *testing.T) {
	t.Parallel()
	r := newTest(Sums, 0)
	a, now := []byte("a"), time.Unix(1_700_000_000, 0)
	if !r.FirstTime(a) || r.FirstTime(a) || !r.FirstTime([]byte("b")) {
		t.Error("the first time is not told from the second")
	}
	if r.Since(a, now) != 0 || r.Since(a, now.Add(time.Minute)) != time.Minute || r.Since([]byte("b"), now) != 0 {
		t.Error("the time since the first is wrong")
	}
	r.Reset()
	if !r.FirstTime(a) || r.Since(a, now.Add(time.Hour)) != 0 {
		t.Error("a reset keeps them")
	}
}
