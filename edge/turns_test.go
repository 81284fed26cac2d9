package edge

import (
	"testing"

	"pgregory.net/rapid"
)

func TestTurnsComeInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q turns[int]
		var want []int
		for i := range 300 {
			if len(want) > 0 && rapid.Bool().Draw(t, "take") {
				if got := q.pop(); got != want[0] {
					t.Fatalf("%d came, want %d", got, want[0])
				}
				want = want[1:]
			} else {
				q.push(i)
				want = append(want, i)
			}
			if q.len() != len(want) {
				t.Fatalf("%d wait, want %d", q.len(), len(want))
			}
		}
	})
}

// BenchmarkTurns is a turn with 100,000 that wait.
func BenchmarkTurns(b *testing.B) {
	var q turns[*int]
	for range 100_000 {
		q.push(new(int))
	}
	b.ReportAllocs()
	for b.Loop() {
		q.push(q.pop())
	}
}
