package main

import (
	"os"
	"slices"
	"testing"
)

func TestProgramPages(t *testing.T) {
	t.Parallel()
	const smaps = `00400000-00500000 r-xp 00000000 fe:00 1234                               /opt/server
Size:               1024 kB
Rss:                 512 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00500000-00600000 r--p 00100000 fe:00 1234                               /opt/server
Rss:                 512 kB
Anonymous:             4 kB
00600000-00700000 rw-p 00200000 fe:00 1234                               /opt/server
Anonymous:             0 kB
00700000-00800000 r--p 00000000 fe:00 99                                 /opt/server.so
Anonymous:             0 kB
7f0000000000-7f0000100000 r--p 00000000 00:00 0
Anonymous:             0 kB
7ffe00000000-7ffe00001000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
`
	want := []pages{{0x400000, 0x100000}} // the second has pages that are not the file's any more
	if got := programPages([]byte(smaps), "/opt/server"); !slices.Equal(got, want) {
		t.Errorf("%x", got)
	}
	if got := programPages([]byte(smaps), "/opt/server (deleted)"); got != nil {
		t.Errorf("%x", got)
	}
	// This program goes on with what it needs mapped again.
	own, err := os.ReadFile("/proc/self/smaps")
	program, progErr := os.Readlink("/proc/self/exe")
	if err != nil || progErr != nil {
		t.Skip("no /proc")
	}
	if len(programPages(own, program)) == 0 {
		t.Error("no page of this program is found")
	}
	leaveStart()
}
