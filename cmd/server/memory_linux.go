package main

import (
	"bufio"
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// leaveStart gives back what only starting has needed: garbage, and on Linux the resident pages of the program's file,
// nearly all of which starting has read. What is used again is mapped again as it is touched, out of the file or, most
// often, the page cache. Were it left out, the service would do the same with more memory.
func leaveStart() {
	debug.FreeOSMemory()
	maps, err := os.ReadFile("/proc/self/smaps")
	program, progErr := os.Readlink("/proc/self/exe")
	if err != nil || progErr != nil {
		return
	}
	for _, m := range programPages(maps, program) {
		// The memory is the program's own and only read: there is nothing in it that the file does not have.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.length, unix.MADV_DONTNEED)
	}
}

type pages struct{ start, length uintptr }

// programPages are the mappings of the program's file that cannot be written and never were.
func programPages(smaps []byte, program string) (all []pages) {
	var at pages
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 6 && fields[5] == program && (fields[1] == "r-xp" || fields[1] == "r--p"):
			from, to, _ := strings.Cut(fields[0], "-")
			start, err := strconv.ParseUint(from, 16, 64)
			end, endErr := strconv.ParseUint(to, 16, 64)
			if at = (pages{}); err == nil && endErr == nil && end > start {
				at = pages{uintptr(start), uintptr(end - start)}
			}
		case len(fields) >= 5 && strings.Contains(fields[0], "-"): // another mapping
			at = pages{}
		case len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0" && at.length > 0:
			all = append(all, at)
			at = pages{}
		}
	}
	return all
}
