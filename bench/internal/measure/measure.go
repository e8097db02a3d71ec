// Package measure holds what every benchmark reports and how it is summed up: what a client cost, the median of several
// runs, latency histograms, the table that is printed, and the facts about the machine.
//
// It starts nothing and sends nothing; internal/rig and internal/load do.
package measure

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Usage is what a process has used so far.
type Usage struct {
	User   time.Duration
	System time.Duration
	// MaxRSS is the most memory that was ever resident, in bytes.
	MaxRSS int64
}

// Self is the usage of the calling process.
func Self() Usage {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // it has no way to fail with these arguments
	}
	return FromRusage(&r)
}

// FromRusage converts what the kernel reports about an ended child.
func FromRusage(r *syscall.Rusage) Usage {
	return Usage{
		User:   time.Duration(r.Utime.Nano()),
		System: time.Duration(r.Stime.Nano()),
		MaxRSS: r.Maxrss << 10,
	}
}

// CPU is user and system time together.
func (u Usage) CPU() time.Duration { return u.User + u.System }

// Report is the one line of JSON that every client under test, of whatever language, writes to its standard output when
// it is done. Peers write it themselves; its names are therefore part of the contract between the programs of bench/.
type Report struct {
	// StartedAt is when the measured part began, after the warm-up, in Unix nanoseconds.
	StartedAt int64 `json:"started_at"`
	// Seconds is how long the client itself thinks it took.
	Seconds float64 `json:"seconds"`
	// Warmup and Count are the notifications sent before and in the measured part.
	Warmup int `json:"warmup"`
	Count  int `json:"count"`
	// Failed counts those of the measured part that the client saw refused.
	Failed int `json:"failed"`
	// CPUSeconds is user and system time of the measured part, MaxRSS the peak of the whole process in bytes.
	CPUSeconds float64 `json:"cpu_seconds"`
	MaxRSS     int64   `json:"max_rss"`
	// Mallocs is the number of heap objects made in the measured part; 0 where the client cannot tell.
	Mallocs uint64 `json:"mallocs"`
	// Resent counts notifications that the client sent more than once.
	Resent int `json:"resent"`
	// Outcomes counts the results of the measured part that were not "accepted", by name; only our own client has them.
	Outcomes map[string]int `json:"outcomes,omitempty"`
}

// Write writes the line.
func (r Report) Write(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// Rate is notifications a second.
func (r Report) Rate() float64 { return float64(r.Count) / r.Seconds }

// CPUMicros is client CPU per notification, in microseconds.
func (r Report) CPUMicros() float64 { return r.CPUSeconds / float64(r.Count) * 1e6 }

// MallocsEach is allocations per notification.
func (r Report) MallocsEach() float64 { return float64(r.Mallocs) / float64(r.Count) }

// RSS is the peak of the client's memory, in bytes.
func (r Report) RSS() float64 { return float64(r.MaxRSS) }

// Median returns the middle of the values (the lower of the two in the middle).
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// MedianOf is the median of one property of the runs.
func MedianOf[T any](runs []T, property func(T) float64) float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = property(r)
	}
	return Median(values)
}

// Table is a markdown table.
type Table struct {
	Columns []string
	Rows    [][]string
}

// Row appends a row; the cells are formatted with Cell.
func (t *Table) Row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = Cell(c)
	}
	t.Rows = append(t.Rows, row)
}

// Write writes the table, its columns as wide as they need to be.
func (t *Table) Write(w io.Writer) {
	width := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		width[i] = len([]rune(c))
	}
	for _, r := range t.Rows {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	line := func(cells []string) {
		for i, c := range cells {
			_, _ = fmt.Fprintf(w, "| %s%s ", c, strings.Repeat(" ", width[i]-len([]rune(c))))
		}
		_, _ = fmt.Fprintln(w, "|")
	}
	line(t.Columns)
	rule := make([]string, len(t.Columns))
	for i := range rule {
		rule[i] = strings.Repeat("-", width[i])
	}
	line(rule)
	for _, r := range t.Rows {
		line(r)
	}
	_, _ = fmt.Fprintln(w)
}

// Cell formats a value with as many digits as a reader can use.
func Cell(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case time.Duration:
		switch {
		case v >= 10*time.Second:
			return fmt.Sprintf("%.1f s", v.Seconds())
		case v >= time.Second:
			return fmt.Sprintf("%.2f s", v.Seconds())
		case v >= time.Millisecond:
			return fmt.Sprintf("%.1f ms", v.Seconds()*1e3)
		}
		return fmt.Sprintf("%.0f µs", v.Seconds()*1e6)
	case float64:
		switch {
		case v >= 1000:
			return Thousands(int64(v + 0.5))
		case v >= 100:
			return fmt.Sprintf("%.0f", v)
		case v >= 10:
			return fmt.Sprintf("%.1f", v)
		}
		return fmt.Sprintf("%.2f", v)
	case int:
		return Thousands(int64(v))
	case int64:
		return Thousands(v)
	case uint64:
		return Thousands(int64(v))
	}
	return fmt.Sprint(v)
}

// Thousands writes a number with its groups of three.
func Thousands(n int64) string {
	s := fmt.Sprint(n)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// MiB is a number of bytes as mebibytes.
func MiB(n int64) string {
	if n <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
}

// Ratio is a over b, as "3.4 x".
func Ratio(a, b float64) string {
	if a <= 0 || b <= 0 {
		return "-"
	}
	return Cell(a/b) + " x"
}
