package measure

import (
	"fmt"
	"io"
)

// Comparison is what several clients reported of their runs; ours is the first.
type Comparison struct {
	clients []string
	reports map[string][]Report
}

// Add adds a run of a client.
func (c *Comparison) Add(client string, r Report) {
	if c.reports == nil {
		c.reports = map[string][]Report{}
	}
	if c.reports[client] == nil {
		c.clients = append(c.clients, client)
	}
	c.reports[client] = append(c.reports[client], r)
}

// Write writes a table of the clients' medians, each beside ours. kind is what they sent.
func (c *Comparison) Write(w io.Writer, kind string) {
	t := Table{Columns: []string{
		"client", kind + "/s", "ours is", "client CPU each", "ours takes", "allocations each", "RSS"}}
	ours := c.reports[c.clients[0]]
	ourRate, ourCPU := MedianOf(ours, Report.Rate), MedianOf(ours, Report.CPUMicros)
	for _, client := range c.clients {
		runs := c.reports[client]
		rate, cpu, allocations := MedianOf(runs, Report.Rate), MedianOf(runs, Report.CPUMicros), "-"
		if mallocs := MedianOf(runs, Report.MallocsEach); mallocs > 0 {
			allocations = fmt.Sprintf("%.3f", mallocs)
		}
		t.Row(client, rate, Ratio(ourRate, rate), fmt.Sprintf("%.2f µs", cpu), Ratio(ourCPU, cpu), allocations,
			MiB(int64(MedianOf(runs, Report.RSS))))
	}
	t.Write(w)
}
