// Package rig starts and stops the programs that are measured: the service, the simulator, the clients, a private
// database's schema. Every process is started with a bound on its life, ends with the program that started it, and is
// killed by its process id alone.
//
// It measures nothing itself; internal/measure and internal/load do.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/lhspn/lhspn/bench/internal/measure"
)

// Process is a running program.
type Process struct {
	Name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	err   error         // how; valid once ended is closed
	log   *tail
}

// Spec says what to start.
type Spec struct {
	Name    string
	Program string
	Args    []string
	Env     []string // added to the environment
	Dir     string
	Stdout  io.Writer
	// LogFile takes the standard error; empty: only its end is kept, for error messages.
	LogFile string
}

// Start starts a program. It is killed when ctx ends.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	cmd := exec.CommandContext(ctx, spec.Program, spec.Args...)
	cmd.Env = append(os.Environ(), spec.Env...)
	cmd.Dir = spec.Dir
	cmd.Stdout = spec.Stdout
	cmd.WaitDelay = 5 * time.Second
	// Should this program be killed itself, its children go too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &Process{Name: spec.Name, cmd: cmd, ended: make(chan struct{}), log: &tail{}}
	cmd.Stderr = p.log
	var file *os.File
	if spec.LogFile != "" {
		var err error
		if file, err = os.OpenFile(spec.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return nil, fmt.Errorf("open the log of %s: %w", spec.Name, err)
		}
		p.log.also = file
	}
	var err error
	onParentThread(func() { err = cmd.Start() })
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	go func() {
		p.err = cmd.Wait()
		if file != nil {
			_ = file.Close()
		}
		close(p.ended)
	}()
	return p, nil
}

// onParentThread runs f on the one thread that starts all processes. To the kernel it is their parent, with whose end
// they are killed, and Go ends threads as it pleases, but for those that a goroutine is locked to.
func onParentThread(f func()) {
	parentThread.Do(func() {
		go func() {
			runtime.LockOSThread()
			for f := range parentWork {
				f()
			}
		}()
	})
	done := make(chan struct{})
	parentWork <- func() {
		defer close(done)
		f()
	}
	<-done
}

var (
	parentThread sync.Once
	parentWork   = make(chan func())
)

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill ends the process at once, as a power cut would, and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Stop asks the process to end, and kills it when it has not done so within the timeout. It reports the time it took,
// and whether it went by itself.
func (p *Process) Stop(timeout time.Duration) (took time.Duration, clean bool) {
	begin := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return time.Since(begin), true
	case <-time.After(timeout):
		p.Kill()
		return time.Since(begin), false
	}
}

// Wait waits until the process ends by itself; an exit status other than 0 is an error that shows what it wrote last.
func (p *Process) Wait() (measure.Usage, error) {
	<-p.ended
	if p.err != nil {
		return measure.Usage{}, fmt.Errorf("%s: %w: %s", p.Name, p.err, p.Log())
	}
	usage, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return measure.Usage{}, fmt.Errorf("%s: no resource usage on this system", p.Name)
	}
	return measure.FromRusage(usage), nil
}

// Log is the end of what the process wrote to its standard error.
func (p *Process) Log() string { return p.log.String() }

// Client runs one of the clients under test, which prints a measure.Report, and returns that. A client that does not
// end by itself after its report (so as not to reset the connection) is killed once gone returns.
func Client(ctx context.Context, spec Spec, gone func(context.Context, measure.Report) error) (measure.Report, error) {
	var report measure.Report
	reader, writer := io.Pipe()
	spec.Stdout = writer
	p, err := Start(ctx, spec)
	if err != nil {
		return report, err
	}
	go func() {
		<-p.Ended()
		_ = writer.Close()
	}()
	err = json.NewDecoder(reader).Decode(&report)
	if err == nil && gone != nil {
		err = gone(ctx, report)
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }() // ends with the writer
	if err != nil {
		p.Kill()
		return report, fmt.Errorf("%s: %w: %s", spec.Name, err, p.Log())
	}
	p.Stop(2 * time.Second)
	return report, nil
}

// ClientArgs are what each of the clients takes as arguments: where it sends, with whose credentials, and how much. A
// tenth of the count goes before it as a warm-up.
func ClientArgs(address, credentials string, count int) []string {
	return []string{"-address", address, "-credentials", credentials,
		"-warmup", strconv.Itoa(count / 10), "-count", strconv.Itoa(count)}
}

// tail keeps the last few kilobytes that were written to it.
type tail struct {
	also io.Writer
	mu   sync.Mutex
	buf  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - 4<<10; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	if t.also != nil {
		return t.also.Write(b)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}

// TempDir makes a folder for a run, and returns what removes it with all that is in it.
func TempDir() (dir string, discard func(), err error) {
	dir, err = os.MkdirTemp("", "lhspn-bench-")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

// FreeAddress is an address on loopback that nothing listens at right now.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// Program is the path of a program that bench/run.sh has built.
func Program(bin, name string) (string, error) {
	path, err := filepath.Abs(filepath.Join(bin, name))
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not built: run bench/run.sh, or bench/build.sh: %w", name, err)
	}
	return path, nil
}

// Poll calls done every interval until it reports true or an error, or ctx ends.
func Poll(ctx context.Context, interval time.Duration, what string, done func() (bool, error)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// ErrEnded says that a process ended while something was still expected of it.
var ErrEnded = errors.New("the process has ended")

// Reachable waits until something listens at the address.
func Reachable(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return Poll(ctx, 5*time.Millisecond, "wait for "+address, func() (bool, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return false, nil //nolint:nilerr // it does not listen yet
		}
		return true, conn.Close()
	})
}
