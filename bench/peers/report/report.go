// Package report is what the peers' drivers share: the flags, the tokens and payload, and the line of JSON that
// bench/internal/measure.Report describes. It is written here once more because this module must not depend on the
// service's.
package report

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Options are the flags of every driver.
type Options struct {
	Address     string
	Credentials string // the directory that the simulator wrote
	Warmup      int
	Count       int
	Connections int
	Workers     int
}

// Parse reads the flags.
func Parse() Options {
	var o Options
	flag.StringVar(&o.Address, "address", "", "host:port of the gateway")
	flag.StringVar(&o.Credentials, "credentials", "", "directory with ca.pem, client.pem and the provider token key")
	flag.IntVar(&o.Warmup, "warmup", 10_000, "notifications before the measured part")
	flag.IntVar(&o.Count, "count", 100_000, "notifications in the measured part")
	flag.IntVar(&o.Connections, "connections", 1, "connections")
	flag.IntVar(&o.Workers, "workers", 500, "goroutines on each connection (HTTP/2 only)")
	flag.Parse()
	return o
}

// Alert is the text of 100 bytes that all clients send.
var Alert = strings.Repeat("0123456789", 10)

// Tokens are the first n device tokens in hexadecimal, as bench/internal/rig.Token has them.
func Tokens(n int) []string {
	list := make([]string, n)
	var raw [32]byte
	for i := range list {
		binary.BigEndian.PutUint32(raw[:], uint32(i+1)*0x9e3779b1)
		for k := 4; k < 28; k++ {
			raw[k] = raw[k&3] + byte(37*k)
		}
		binary.BigEndian.PutUint32(raw[28:], uint32(i))
		list[i] = hex.EncodeToString(raw[:])
	}
	return list
}

// Meter measures from Begin to End.
type Meter struct {
	start   time.Time
	cpu     float64
	mallocs uint64
}

func usage() (cpu float64, maxRSS int64) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9, r.Maxrss << 10
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// Begin starts the measured part.
func Begin() *Meter {
	m := &Meter{mallocs: mallocs()}
	m.cpu, _ = usage()
	m.start = time.Now()
	return m
}

// End ends the measured part and writes the report.
func (m *Meter) End(o Options, failed int) {
	seconds := time.Since(m.start).Seconds()
	cpu, rss := usage()
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{
		"started_at": m.start.UnixNano(), "seconds": seconds, "warmup": o.Warmup, "count": o.Count, "failed": failed,
		"cpu_seconds": cpu - m.cpu, "max_rss": rss, "mallocs": mallocs() - m.mallocs,
	}); err != nil {
		panic(err)
	}
}
