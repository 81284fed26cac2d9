package edge

import (
	"fmt"
	"testing"
)

// A fan-out takes several turns of the loop, and goes round from where the last
// one ended. Who joins in between must not take another's turn.
func TestNobodyIsPassedOverWhileOthersJoin(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Loops = 1 })
	var members []*wsClient
	join := func(n int) {
		for range n {
			members = append(members, s.dial("/v1/events?topic=a"))
		}
	}
	wantAll := func(text string) {
		t.Helper()
		for _, c := range members {
			if got := string(c.read().Payload); got != text {
				t.Fatalf("got %q, want %q", got, text)
			}
		}
	}
	join(200)
	s.publishText("a", "first")
	wantAll("first")
	join(200)
	for round := range 20 {
		text := fmt.Sprint("round ", round)
		late := []*raw{s.raw(), s.raw(), s.raw(), s.raw(), s.raw()}
		published := make(chan struct{})
		go func() {
			defer close(published)
			s.publishText("a", text)
		}()
		for _, r := range late {
			r.write(upgradeTo("/v1/events?topic=a"))
		}
		wantAll(text)
		<-published
	}
}
