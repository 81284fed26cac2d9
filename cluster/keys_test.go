package cluster

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestKeysAreReadAsTheyAreMade(t *testing.T) {
	one, two := NewKey(), NewKey()
	keys, err := ParseKeys([]byte("# the new one\n" + one + "\n\n" + two + "\n"))
	if err != nil || len(keys) != 2 || bytes.Equal(keys[0], keys[1]) {
		t.Errorf("got %v, %v, want two keys", keys, err)
	}
	for _, bad := range []string{"", "# none\n", "short", one + "x", strings.Repeat(one+"\n", maxKeys+1)} {
		if _, err := ParseKeys([]byte(bad)); !errors.Is(err, ErrBadKey) {
			t.Errorf("%.20q: got %v, want ErrBadKey", bad, err)
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte(NewKey()))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := ParseKeys(text)
		for _, key := range keys {
			if err != nil || len(key) != keyBytes {
				t.Errorf("got a key of %d bytes and %v", len(key), err)
			}
		}
	})
}

// secured is two links with keys of their own.
func secured(t *testing.T, a, b Keys) *pair {
	t.Helper()
	p := newPair(t)
	for link, keys := range map[*Link]Keys{p.a: a, p.b: b} {
		if keys == nil {
			continue
		}
		config, err := keys.TLS()
		if err != nil {
			t.Fatal(err)
		}
		link.SetTLS(config)
	}
	p.b.Handle(1, echo)
	return p
}

func newKeys(t *testing.T, n int) Keys {
	t.Helper()
	keys, err := ParseKeys([]byte(strings.Repeat(NewKey()+"\n", 1)))
	if err != nil {
		t.Fatal(err)
	}
	for len(keys) < n {
		keys = append(keys, newKeys(t, 1)...)
	}
	return keys
}

func TestOnlyNodesWithAKeyOfTheClusterAreAnswered(t *testing.T) {
	old, next, other := newKeys(t, 1)[0], newKeys(t, 1)[0], newKeys(t, 1)[0]
	for _, c := range []struct {
		name string
		a, b Keys
		want bool
	}{
		{"the same", Keys{old}, Keys{old}, true},
		{"while it is changed", Keys{next, old}, Keys{old, next}, true},
		{"another", Keys{other}, Keys{old}, false},
		{"none at the caller", nil, Keys{old}, false},
		{"none at the other side", Keys{old}, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := secured(t, c.a, c.b)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			got, err := p.a.Call(ctx, "b", 1, []byte("hi"))
			if ok := err == nil && string(got) == "a:hi"; ok != c.want {
				t.Errorf("got %q, %v, want an answer: %v", got, err, c.want)
			}
		})
	}
}

func TestAStreamGoesOverTLSToo(t *testing.T) {
	keys := newKeys(t, 1)
	p := secured(t, keys, keys)
	p.b.HandleStream(1, func(_ context.Context, _ string, req []byte, send func([]byte) error) error { return send(req) })
	var got []byte
	err := p.a.Stream(t.Context(), "b", 1, []byte("hi"), func(frame []byte) error {
		got = append(got, frame...)
		return nil
	})
	if err != nil || string(got) != "hi" {
		t.Errorf("got %q, %v, want hi", got, err)
	}
}

func TestGossipTakesMembersWithTheKeyOnly(t *testing.T) {
	inWorld(t, func(w *world) {
		keys := newKeys(t, 1)
		start := func(i int, keys Keys) *Cluster {
			o := w.options(i)
			o.Keys = keys
			c, err := w.start(i, o)
			if err != nil {
				w.Fatal(err)
			}
			return c
		}
		first, second := start(1, keys), start(2, keys)
		w.within(5*time.Second, "both see each other", func() bool { return allAlive([]*Cluster{first, second}) })
		stranger, none := start(3, newKeys(t, 1)), start(4, nil)
		time.Sleep(10 * time.Second)
		for _, c := range []*Cluster{stranger, none} {
			if got := len(c.Nodes()); got != 1 {
				t.Errorf("a node without the key sees %d nodes, want itself alone", got)
			}
			if c.JoinTrouble() == "" {
				t.Error("a node without the key is not told why nobody answers")
			}
		}
		if got := len(first.Nodes()); got != 2 {
			t.Errorf("a member sees %d nodes, want 2", got)
		}
	})
}
