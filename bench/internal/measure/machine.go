package measure

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// WriteMachine writes the facts that a reader needs to judge the numbers. It names no host.
func WriteMachine(w io.Writer) {
	t := Table{Columns: []string{"machine", ""}}
	t.Row("processor", field("/proc/cpuinfo", "model name"))
	t.Row("cores", runtime.NumCPU())
	t.Row("memory", strings.TrimSpace(field("/proc/meminfo", "MemTotal")))
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		t.Row("kernel", "Linux "+strings.TrimSpace(string(release)))
	}
	t.Row("Go", runtime.Version()+" "+runtime.GOOS+"/"+runtime.GOARCH)
	for _, program := range [][]string{
		{"node", "--version"}, {"mariadbd", "--version"}, {"h2load", "--version"}, {"nghttpd", "--version"},
	} {
		out, err := exec.Command(program[0], program[1:]...).Output()
		if err != nil {
			out = []byte("not installed")
		}
		line, _, _ := strings.Cut(string(out), "\n")
		t.Row(program[0], strings.TrimSpace(strings.TrimPrefix(line, "mariadbd  ")))
	}
	t.Write(w)
}

func field(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// ResetPeak makes the kernel forget a process's peak of memory, so that Peak tells that of what follows.
func ResetPeak(pid int) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o200); err != nil {
		return fmt.Errorf("reset the peak of memory: %w", err)
	}
	return nil
}

// Peak is the most memory that was resident since the start or the last ResetPeak, in bytes.
func Peak(pid int) int64 {
	var kib int64
	if _, err := fmt.Sscanf(field(fmt.Sprintf("/proc/%d/status", pid), "VmHWM"), "%d", &kib); err != nil {
		return 0
	}
	return kib << 10
}

// Resident is the memory that is resident now, in bytes.
func Resident(pid int) int64 {
	var kib int64
	if _, err := fmt.Sscanf(field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS"), "%d", &kib); err != nil {
		return 0
	}
	return kib << 10
}

// CPUSeconds is the user and system time that a running process has used.
func CPUSeconds(pid int) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(data), ") ") // the name may hold spaces
	if !ok {
		return 0
	}
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	var user, system int64
	if _, err := fmt.Sscan(fields[11], &user); err != nil {
		return 0
	}
	if _, err := fmt.Sscan(fields[12], &system); err != nil {
		return 0
	}
	return float64(user+system) / 100 // USER_HZ, which Linux fixes at 100 for this file
}
