package main

import (
	"net"
	"os"
)

// notify tells systemd, where it started the process, what has become of the service; see sd_notify(3).
func (s *service) notify(state string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close() // a datagram has left or it has not
	}
	if err != nil {
		s.log.Warn("systemd cannot be told", "state", state, "error", err)
	}
}
