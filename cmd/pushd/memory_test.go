package main

import (
	"runtime"
	"testing"
)

func TestMemoryIsGivenBackAtRestOnly(t *testing.T) {
	before := memory{allocated: 100 << 20, holds: 40 << 20, live: 10 << 20}
	given := memory{allocated: 10 << 20, holds: 10 << 20, live: 10 << 20}
	for _, c := range []struct {
		what string
		now  memory
		want bool
	}{
		{"at rest with 30 MiB of garbage", memory{101 << 20, 40 << 20, 10 << 20}, true},
		{"allocating", memory{110 << 20, 40 << 20, 10 << 20}, false},
		{"with little garbage", memory{101 << 20, 12 << 20, 10 << 20}, false},
	} {
		if got := c.now.rests(before, given); got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, got, c.want)
		}
	}
	if now := (memory{101 << 20, 40 << 20, 10 << 20}); now.rests(before, before) {
		t.Errorf("soon after the last time: got true, want false")
	}
	runtime.GC()
	if m := readMemory(); m.allocated == 0 || m.holds == 0 || m.live == 0 {
		t.Errorf("got %+v, want no zeros", m)
	}
}
