package webpush

import (
	"context"
	"crypto/rand"
)

// keyPool has key pairs that were made while there was nothing else to do, so that a message needs only the key
// agreement when it is sent. They are random and of nobody until a message takes one; each is taken once.
type keyPool struct {
	pairs chan *keyPair
	// taken says that there is room again.
	taken chan struct{}
}

func newKeyPool(size int) *keyPool {
	return &keyPool{pairs: make(chan *keyPair, size), taken: make(chan struct{}, 1)}
}

// take gives a pair, made ahead or now.
func (p *keyPool) take() (pair *keyPair, ahead bool, err error) {
	select {
	case pair = <-p.pairs:
		select {
		case p.taken <- struct{}{}:
		default:
		}
		return pair, true, nil
	default:
		pair, err = newKeyPair()
		return pair, false, err
	}
}

// run fills the pool until ctx ends. Before each pair it calls idle, which waits until there is nothing to send and
// reports false when ctx has ended.
func (p *keyPool) run(ctx context.Context, cores *Cores, idle func(context.Context) bool) error {
	for idle(ctx) {
		if len(p.pairs) == cap(p.pairs) {
			select {
			case <-ctx.Done():
				return nil
			case <-p.taken:
			}
			continue
		}
		turn := cores.begin(ctx)
		pair, err := newKeyPair()
		cores.end(turn)
		if err != nil {
			return err
		}
		select {
		case p.pairs <- pair:
		default: // there is no other that fills it
		}
	}
	return nil
}

func newSalt() (salt [saltLen]byte) {
	_, _ = rand.Read(salt[:]) // it never fails
	return salt
}
