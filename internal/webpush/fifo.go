package webpush

// fifo is a queue that allocates nothing once it has grown.
type fifo[T any] struct {
	items []T // those from head on
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) front() T { return q.items[q.head] }

func (q *fifo[T]) push(v T) {
	if q.head > 0 && len(q.items) == cap(q.items) && q.head >= len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// pushFront puts back what is to be the next again.
func (q *fifo[T]) pushFront(v T) {
	if q.head == 0 {
		var none T
		q.items = append(q.items, none)
		copy(q.items[1:], q.items)
		q.head++
	}
	q.head--
	q.items[q.head] = v
}

func (q *fifo[T]) pop() T {
	var none T
	v := q.items[q.head]
	q.items[q.head] = none // so that the queue keeps nothing alive
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v
}
