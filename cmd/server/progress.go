package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// How often a long command says how far it is: on a terminal, where one line is written over, and elsewhere.
const (
	terminalEvery = 200 * time.Millisecond
	plainEvery    = 10 * time.Second
)

// progress tells people how far a long command is. It is written by whoever does the work, and read beside it.
type progress struct {
	what, unit string
	// count is what is shown; part of whole is how much of the work that is, where whole is known, and not 0.
	count, part, whole atomic.Int64
	// words, where there are any, are shown in their place.
	words atomic.Pointer[string]

	out      io.Writer
	terminal bool
	width    func() int // of the terminal
	started  time.Time
	last     int // columns of the line that is on the terminal
	stop     chan struct{}
	stopped  sync.WaitGroup
}

// startProgress tells of what, which counts in unit, on out until end is called.
func startProgress(out io.Writer, what, unit string) *progress {
	p := &progress{out: out, what: what, unit: unit, terminal: isTerminal(out), width: func() int { return 80 }}
	if f, ok := out.(*os.File); ok && p.terminal {
		p.width = func() int {
			columns, _, err := term.GetSize(int(f.Fd()))
			if err != nil || columns == 0 {
				return 80
			}
			return columns
		}
	}
	p.start()
	return p
}

func (p *progress) start() {
	p.started, p.stop = time.Now(), make(chan struct{})
	every := plainEvery
	if p.terminal {
		every = terminalEvery
	}
	p.stopped.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.show()
			case <-p.stop:
				return
			}
		}
	})
}

// say has the words shown in place of numbers.
func (p *progress) say(words string) { p.words.Store(&words) }

// end writes the last line, which stays.
func (p *progress) end() {
	close(p.stop)
	p.stopped.Wait()
	p.show()
	if p.terminal {
		p.print("\n")
	}
}

// show writes the line, on a terminal over the last one.
func (p *progress) show() {
	line := p.line(time.Since(p.started))
	if !p.terminal {
		p.print(line + "\n")
		return
	}
	if most := p.width() - 1; len(line) > most { // a line that wraps cannot be written over
		line = line[:max(most, 0)]
	}
	p.print("\r" + line + strings.Repeat(" ", max(p.last-len(line), 0)))
	p.last = len(line)
}

// print loses what cannot be printed: the work goes on.
func (p *progress) print(text string) { _, _ = io.WriteString(p.out, text) }

// line is as "import: 12,000 lines, 40%, 3,000 a second, 6s left".
func (p *progress) line(took time.Duration) string {
	if words := p.words.Load(); words != nil {
		return fmt.Sprintf("%s: %s, in %s", p.what, *words, took.Round(time.Second))
	}
	count, part, whole := p.count.Load(), p.part.Load(), p.whole.Load()
	line := fmt.Sprintf("%s: %s %s", p.what, thousands(count), p.unit)
	if whole > 0 {
		line += fmt.Sprintf(", %d%%", min(part*100/whole, 100))
	}
	if took < time.Second {
		return line
	}
	if rate := int64(float64(count) / took.Seconds()); rate > 0 {
		line += fmt.Sprintf(", %s a second", thousands(rate))
	}
	if part > 0 && part < whole {
		left := time.Duration(float64(took) * float64(whole-part) / float64(part))
		return line + fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return line + fmt.Sprintf(", in %s", took.Round(time.Second))
}

// thousands is the number with a comma before each three digits.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// read has p count the lines and bytes that are read.
func (p *progress) read(r io.Reader) io.Reader { return &countedReader{r, p} }

type countedReader struct {
	r io.Reader
	p *progress
}

func (c *countedReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.p.part.Add(int64(n))
	c.p.count.Add(int64(strings.Count(string(b[:n]), "\n")))
	return n, err
}
