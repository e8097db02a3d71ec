package fcm

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lhspn/lhspn/internal/push"
)

// A message that is too large for its many members is refused in the time that it takes to read it.
func TestManyMembersTakeTheirTime(t *testing.T) {
	t.Parallel()
	runtime.LockOSThread() // for its time: others that run meanwhile take none of it
	defer runtime.UnlockOSThread()
	for name, block := range map[string]func(object string) map[string]push.JSON{
		"data": func(o string) map[string]push.JSON { return map[string]push.JSON{"data": push.JSON(o)} },
		"fcm.data": func(o string) map[string]push.JSON {
			return map[string]push.JSON{Name: push.JSON(`{"data": ` + o + `}`)}
		},
	} {
		quickest := func(n int) time.Duration {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, `,"z%05d": "1"`, i)
			}
			blocks := block("{" + b.String()[1:] + "}")
			best := time.Hour
			for range 5 {
				begin := threadTime(t)
				Compose(&push.Content{Blocks: blocks})
				best = min(best, threadTime(t)-begin)
			}
			return best
		}
		// By the square it would be 4,096 times as long; what is linear takes 64 times.
		if few, many := quickest(500), quickest(32_000); many > 1000*few {
			t.Errorf("%s: %v for 500 members, %v for 32,000", name, few, many)
		}
	}
}

// threadTime is the processor time that this thread has taken.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Nano())
}
