package binary

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/lhspn/lhspn/internal/apns/frame"
	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/push/pushtest"
)

// fault is what the model gateway does wrong on one connection.
type fault struct {
	kind   string
	after  int           // notifications taken before it
	busy   time.Duration // before anything is read
	status frame.Status
	delay  time.Duration // before it
	chunk  int           // how much is read at a time
}

// A gateway of the one temper is prompt, and otherwise does anything; then silence tells: a connection that it breaks
// off, or never ends, has been silent for longer than it ever is before it answers. One of the other temper may be
// slower than anything that is waited for before the next step is taken, and nothing but its answers and its ends
// tells.
var (
	anyFault = []string{
		"none", "refuse the dial", "close at once", "reject", "reject in two pieces", "reject and reset", "unknown identifier",
		"reset", "never close", "acknowledge each", "stall and reset", "shutdown naming the last good", "reset at the end",
	}
	slowFaults = []string{
		"none", "refuse the dial", "close at once", "reject", "reject in two pieces", "reject and reset", "unknown identifier",
		"acknowledge each", "shutdown naming the last good", "reset at the end", "reject at the end", "end late",
	}
)

func genFault(slow bool) *rapid.Generator[fault] {
	return rapid.Custom(func(t *rapid.T) fault {
		kinds, milliseconds := anyFault, rapid.IntRange(0, 900)
		if slow { // busy and delay together less than twice EndAfter
			kinds, milliseconds = slowFaults, rapid.OneOf(milliseconds, rapid.SampledFrom([]int{3400, 6000, 8000, 35000, 59000}))
		}
		f := fault{
			kind:  rapid.SampledFrom(kinds).Draw(t, "kind"),
			after: rapid.IntRange(0, 60).Draw(t, "after"),
			status: rapid.SampledFrom([]frame.Status{
				frame.StatusProcessingError, frame.StatusInvalidToken, frame.StatusShutdown, frame.StatusInvalidPayloadSize, 99,
			}).Draw(t, "status"),
			delay: time.Duration(milliseconds.Draw(t, "delay")) * time.Millisecond,
			chunk: rapid.SampledFrom([]int{1, 7, 100, 4096}).Draw(t, "chunk"),
		}
		if slow {
			f.busy = time.Duration(milliseconds.Draw(t, "busy")) * time.Millisecond
		}
		return f
	})
}

// model is a gateway that keeps account of what it did.
type model struct {
	t      pushtest.Reporter
	plan   []fault // of the connections, in order; after it the gateway has no faults
	window int

	mu       sync.Mutex
	accepted map[int]int
	refused  map[int][]frame.Status
}

// of is the fault of the n-th dial.
func (m *model) of(n int) fault {
	if n < len(m.plan) {
		return m.plan[n]
	}
	return fault{kind: "none"}
}

func (m *model) serve(f fault, c *gatewayConn) {
	c.chunk = f.chunk
	if f.kind == "close at once" {
		return
	}
	elapse(f.busy)
	var taken []int // and not yet thrown away
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, number := range taken {
			m.accepted[number]++
		}
	}()
	for {
		n, ok := c.next(m.t)
		if !ok {
			taken = m.atEnd(f, c, taken)
			return
		}
		if f.kind != "acknowledge each" && time.Since(c.opened) < DefaultConfirmAfter && len(c.got) > m.window {
			m.t.Errorf("%d notifications without evidence on a connection, the window is %d", len(c.got), m.window)
		}
		number := pushtest.NumberOf(n.Token)
		if len(c.got) > f.after {
			if m.strike(f, c, number, n.Identifier) {
				return
			}
		}
		taken = append(taken, number)
		if f.kind == "acknowledge each" {
			_, _ = c.Write(frame.AppendErrorResponse(nil, frame.StatusNone, n.Identifier))
		}
	}
}

// atEnd does what is wrong at the end of what the client sent, and returns those of the taken that are accepted
// nonetheless.
func (m *model) atEnd(f fault, c *gatewayConn, taken []int) []int {
	switch f.kind {
	case "never close":
		for !c.PeerClosed() { // until the client gives up
			elapse(time.Second)
		}
	case "end late":
		elapse(f.delay)
	case "reset at the end": // all was processed
		c.Reset(true)
	case "reject at the end": // it is read at once and processed later
		if f.after < len(taken) {
			elapse(f.delay)
			m.refuse(taken[f.after], f.status)
			c.reject(f.status, uint32(f.after))
			return taken[:f.after]
		}
	}
	return taken
}

func (m *model) refuse(number int, s frame.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused[number] = append(m.refused[number], s)
}

// strike does what is wrong, instead of accepting the notification with that number; it returns false for kinds that
// have no such moment.
func (m *model) strike(f fault, c *gatewayConn, number int, identifier uint32) bool {
	response := func(s frame.Status, id uint32) []byte { return frame.AppendErrorResponse(nil, s, id) }
	refuse := func(s frame.Status) { m.refuse(number, s) }
	switch f.kind {
	case "reject":
		refuse(f.status)
		elapse(f.delay)
		c.reject(f.status, identifier)
	case "reject in two pieces":
		refuse(f.status)
		b := response(f.status, identifier)
		_, _ = c.Write(b[:f.after%5+1])
		elapse(f.delay)
		_, _ = c.Write(b[f.after%5+1:])
	case "reject and reset":
		refuse(f.status)
		elapse(f.delay)
		_, _ = c.Write(response(f.status, identifier))
		c.Reset(false)
	case "unknown identifier":
		elapse(f.delay)
		c.reject(frame.StatusMissingToken, identifier+1<<20)
	case "reset":
		c.Reset(true)
	case "stall and reset":
		elapse(f.delay)
		c.Reset(true)
	case "shutdown naming the last good":
		if identifier == 0 {
			return false
		}
		elapse(f.delay)
		c.reject(frame.StatusShutdown, identifier-1)
	default:
		return false
	}
	return true
}

// Whatever the gateway does, each notification is accepted at least once or reported with the status it was refused
// with; none is lost, the window is bounded, the order within a connection is kept, identifiers count from 0 on each
// connection, Done is called once, and no goroutine is left (the bubble would not end).
func TestProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		slow := rapid.Bool().Draw(rt, "slow")
		plan := rapid.SliceOfN(genFault(slow), 0, 12).Draw(rt, "plan")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 60), 1, 6).Draw(rt, "groups")
		cfg := Config{
			Connections: rapid.IntRange(1, 3).Draw(rt, "connections"),
			Window:      rapid.SampledFrom([]int{1, 5, 30, 1000}).Draw(rt, "window"),
		}
		// Our reading of status 10 sends the identified one again, Apple's takes it as accepted: where it names
		// the last good one, both lose nothing; where it names the bad one, only the first does.
		if rapid.Bool().Draw(rt, "Apple's shutdown") {
			cfg.RetryStatuses = []uint8{1}
			for i := range plan {
				if plan[i].status == frame.StatusShutdown {
					plan[i].status = frame.StatusInvalidToken
				}
			}
		}
		buffer := rapid.SampledFrom([]int{100, 5000, 1 << 20}).Draw(rt, "buffer")
		pause := time.Duration(rapid.SampledFrom([]int{0, 300, 2500}).Draw(rt, "pause")) * time.Millisecond
		synctest.Test(t, func(*testing.T) {
			if problem := runModel(slow, plan, sizes, cfg, buffer, pause); problem != "" {
				rt.Errorf("%s", problem)
			}
		})
	})
}

// collector gathers what goes wrong in the goroutines of a model.
type collector struct {
	mu  sync.Mutex
	all []string
}

func (c *collector) Helper() {}

func (c *collector) Errorf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, fmt.Sprintf(format, args...))
}

func runModel(slow bool, plan []fault, sizes []int, cfg Config, buffer int, pause time.Duration) string {
	const maxRetries = 3
	problems := new(collector)
	m := &model{t: problems, plan: plan, window: cfg.Window, accepted: map[int]int{}, refused: map[int][]frame.Status{}}
	gw := &gateway{size: buffer, refuse: func(dial int) bool { return m.of(dial).kind == "refuse the dial" }}
	// Dials that are refused make no connection, and so dials are what counts through the plan.
	var connDials []int
	refuse := gw.refuse
	gw.refuse = func(dial int) bool {
		if refuse(dial) {
			return true
		}
		connDials = append(connDials, dial)
		return false
	}
	gw.serve = func(n int, c *gatewayConn) {
		gw.mu.Lock()
		f := m.of(connDials[n])
		gw.mu.Unlock()
		m.serve(f, c)
	}
	s := newTester(problems, cfg, gw)
	total, retries, offeredAgain := 0, 0, false
	attempts := map[int]int{}
	var sent []*push.Group // and not yet looked at
	for _, size := range sizes {
		sent = append(sent, s.send(total, total+size))
		total += size
		elapse(pause)
	}
	final := map[int]push.Result{}
	for round := 0; len(final) < total; round++ {
		if round > 1000 {
			problems.Errorf("%d of %d are still without a final result", total-len(final), total)
			break
		}
		s.Wait()
		again := &push.Group{}
		for _, g := range sent {
			for i := range g.Deliveries {
				d := &g.Deliveries[i]
				number := pushtest.NumberOf([]byte(d.Token))
				switch d.Result.Outcome {
				case push.Retry:
					retries++
					if attempts[number]++; attempts[number] > maxRetries {
						final[number] = d.Result
						continue
					}
					again.Deliveries = append(again.Deliveries, push.Delivery{Notification: d.Notification, Recipient: d.Recipient})
				case push.NotSent:
					again.Deliveries = append(again.Deliveries, push.Delivery{Notification: d.Notification, Recipient: d.Recipient})
				default:
					if _, twice := final[number]; twice {
						problems.Errorf("notification %d has two final results", number)
					}
					final[number] = d.Result
				}
			}
		}
		sent = nil
		if len(again.Deliveries) > 0 {
			sent = []*push.Group{again}
			offeredAgain = true
			elapse(time.Second) // the sender's pause
			s.sendGroup(again)
		}
	}
	s.stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for number, r := range final {
		switch r.Outcome {
		case push.Accepted:
			if m.accepted[number] == 0 {
				problems.Errorf("notification %d counts as accepted, and the gateway did not accept it", number)
			}
		case push.Failed:
			if !slices.ContainsFunc(m.refused[number], func(s frame.Status) bool { return uint16(s.Known()) == r.Status }) {
				problems.Errorf("notification %d failed with status %d, the gateway said %v", number, r.Status, m.refused[number])
			}
		case push.Retry:
		default:
			problems.Errorf("notification %d is %v", number, r.Outcome)
		}
	}
	if retries > len(plan) {
		problems.Errorf("%d attempts were counted for %d faults", retries, len(plan))
	}
	// What is put back after others were written cannot come before them.
	if !offeredAgain && !slow && cfg.Connections == 1 && cfg.Window >= total {
		for n, c := range gw.conns {
			if !slices.IsSorted(c.got) {
				problems.Errorf("connection %d was given %v", n, c.got)
			}
		}
	}
	if len(problems.all) == 0 {
		return ""
	}
	return fmt.Sprintf("%d problems, such as: %s", len(problems.all), problems.all[0])
}
