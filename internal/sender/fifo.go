package sender

// fifo is a queue in a ring, so that what passes through it costs no allocation once it has grown.
type fifo[T any] struct {
	ring []T // its length is a power of two
	head int
	n    int
}

func (f *fifo[T]) len() int { return f.n }

// at returns the i-th from the front.
func (f *fifo[T]) at(i int) T { return f.ring[(f.head+i)&(len(f.ring)-1)] }

func (f *fifo[T]) push(v T) {
	f.grow()
	f.ring[(f.head+f.n)&(len(f.ring)-1)] = v
	f.n++
}

func (f *fifo[T]) pushFront(v T) {
	f.grow()
	f.head = (f.head - 1) & (len(f.ring) - 1)
	f.ring[f.head] = v
	f.n++
}

func (f *fifo[T]) pop() T {
	v := f.ring[f.head]
	var zero T
	f.ring[f.head] = zero
	f.head = (f.head + 1) & (len(f.ring) - 1)
	f.n--
	return v
}

// keep removes everything that keep returns false for, and keeps the order of the rest.
func (f *fifo[T]) keep(keep func(T) bool) {
	for range f.n {
		if v := f.pop(); keep(v) {
			f.push(v)
		}
	}
}

func (f *fifo[T]) grow() {
	if f.n < len(f.ring) {
		return
	}
	ring := make([]T, max(16, 2*len(f.ring)))
	for i := range f.n {
		ring[i] = f.at(i)
	}
	f.ring, f.head = ring, 0
}
