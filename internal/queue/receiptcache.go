package queue

import (
	"sync"

	"github.com/lhspn/lhspn/internal/push"
)

// countedMost is how many receipts a generation of countedReceipts has at the most.
const countedMost = 4096

// countedReceipts are those that were counted here last: who repeats one of them, perhaps a million times, takes no
// room from those that are new, and gives the database no work.
type countedReceipts struct {
	mu         sync.Mutex // guards what follows
	young, old map[push.Receipt]struct{}
}

// has reports whether the receipt is counted for certain.
func (c *countedReceipts) has(r push.Receipt) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, young := c.young[r]
	_, old := c.old[r]
	return young || old
}

// add notes a receipt that was counted, or that never will be since its notification is gone.
func (c *countedReceipts) add(r push.Receipt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) == countedMost {
		c.old, c.young = c.young, nil
	}
	if c.young == nil {
		c.young = map[push.Receipt]struct{}{}
	}
	c.young[r] = struct{}{}
}
