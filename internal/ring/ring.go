// Package ring is a queue with two ends.
package ring

// A Ring is a queue with two ends in a circular buffer that grows by doubling and is then reused: at a steady load
// nothing is allocated. The zero value is empty. At and the Pop methods panic where there is no such element.
type Ring[T any] struct {
	buf  []T // its length is 0 or a power of two
	head int
	n    int
}

// Len is the number of elements.
func (r *Ring[T]) Len() int { return r.n }

// At is the i-th element from the front. It stays where it is until the ring is changed.
func (r *Ring[T]) At(i int) *T {
	if uint(i) >= uint(r.n) {
		panic("ring: no such element")
	}
	return &r.buf[(r.head+i)&(len(r.buf)-1)]
}

// PushBack puts v behind all others.
func (r *Ring[T]) PushBack(v T) {
	r.grow(1)
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = v
	r.n++
}

// Extend puts n elements behind all others and returns their places, the first ones in first.
func (r *Ring[T]) Extend(n int) (first, rest []T) {
	r.grow(n)
	start := (r.head + r.n) & (len(r.buf) - 1)
	r.n += n
	end := min(start+n, len(r.buf))
	return r.buf[start:end], r.buf[:n-(end-start)]
}

// PushFront puts v before all others.
func (r *Ring[T]) PushFront(v T) {
	r.grow(1)
	r.head = (r.head - 1) & (len(r.buf) - 1)
	r.buf[r.head] = v
	r.n++
}

// PopFront removes the first element and returns it. The buffer keeps nothing of it alive.
func (r *Ring[T]) PopFront() T {
	var zero T
	p := r.At(0)
	v := *p
	*p = zero
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	return v
}

// Keep removes all elements that keep returns false for. The others stay in their order.
func (r *Ring[T]) Keep(keep func(T) bool) {
	for range r.n {
		if v := r.PopFront(); keep(v) {
			r.PushBack(v)
		}
	}
}

// grow makes room for n more.
func (r *Ring[T]) grow(n int) {
	if r.n+n <= len(r.buf) {
		return
	}
	size := max(16, 2*len(r.buf))
	for size < r.n+n {
		size *= 2
	}
	buf := make([]T, size)
	for i := range r.n {
		buf[i] = *r.At(i)
	}
	r.buf, r.head = buf, 0
}
