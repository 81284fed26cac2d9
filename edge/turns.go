package edge

// turns is a queue of those whose turn is to come. Taking the first moves none
// of the others, however many they are, but once for as many as were taken.
type turns[T any] struct {
	list []T
	head int // of list, taken
}

func (q *turns[T]) len() int { return len(q.list) - q.head }

func (q *turns[T]) push(v T) { q.list = append(q.list, v) }

// pop takes the first; there must be one.
func (q *turns[T]) pop() T {
	var none T
	v := q.list[q.head]
	q.list[q.head] = none // it is not kept from the collector
	q.head++
	if q.head > len(q.list)/2 {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	return v
}
