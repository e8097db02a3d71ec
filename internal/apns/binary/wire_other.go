//go:build !linux

package binary

import "net"

// unacknowledged is not known here: silence and the end of the stream are believed.
func unacknowledged(*net.TCPConn) int { return 0 }
