package sender

import (
	"sync/atomic"

	"github.com/lhspn/lhspn/internal/push"
)

// payloads bounds what the notifications in memory take, of all routes together. Recipients are bounded by number,
// but of those to one device each has a payload of its own, of up to 4 KiB and more.
type payloads struct {
	most  int64
	taken atomic.Int64
}

// formBytes is about what a notification takes beside its payload, for each platform that it is for.
const formBytes = 1 << 10

// room reports whether a route whose notifications take so many bytes may take more. Each may take as much as it leaves
// to the others: alone a half of all, one of two a third. So whoever comes later finds some room left.
func (p *payloads) room(bytes int64) bool { return bytes == 0 || bytes < p.most-p.taken.Load() }

// take counts the notification, and returns its bytes; release takes it off.
func (p *payloads) take(n *push.Notification) int64 {
	bytes := sizeOf(n)
	p.taken.Add(bytes)
	return bytes
}

func (p *payloads) release(n *push.Notification) int64 {
	bytes := sizeOf(n)
	p.taken.Add(-bytes)
	return bytes
}

func sizeOf(n *push.Notification) int64 {
	bytes := formBytes + len(n.Payload.JSON)
	for _, other := range n.Others {
		bytes += formBytes + len(other.Payload.JSON)
	}
	return int64(bytes)
}
