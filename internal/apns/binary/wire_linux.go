package binary

import (
	"math"
	"net"

	"golang.org/x/sys/unix"
)

// unacknowledged is how many bytes written to c the peer's TCP has not acknowledged; our FIN counts as one. Of a
// connection that we have closed it is all of them, and where the kernel does not tell none.
func unacknowledged(c *net.TCPConn) int {
	raw, err := c.SyscallConn()
	if err != nil {
		return math.MaxInt32
	}
	n := 0
	if err := raw.Control(func(fd uintptr) {
		if v, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			n = v
		}
	}); err != nil {
		return math.MaxInt32
	}
	return n
}
