package cluster

import (
	"bufio"
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func sampleNode() Node {
	return Node{
		Name: "n1", ClusterID: "c-1", State: StateDraining, Role: "full", Zone: "z", Version: "0.1.0",
		ClientAddr: "10.0.0.1:7340", PeerAddr: "10.0.0.1:7341", Started: time.Unix(1_700_000_000, 5),
		Protocols: Protocols{2, 4, 3},
	}
}

func TestMetadataAtItsLimitsFits(t *testing.T) {
	o := Options{
		ID: strings.Repeat("i", maxIDBytes), Name: strings.Repeat("n", maxNameBytes), ClusterID: strings.Repeat("c", maxClusterIDBytes),
		Role: strings.Repeat("r", maxRoleBytes), Zone: strings.Repeat("z", maxNameBytes), Version: strings.Repeat("v", maxNameBytes),
		ClientAddr: strings.Repeat("a", maxAddrBytes), PeerAddr: strings.Repeat("p", maxAddrBytes), Started: time.Unix(1<<33, 0),
	}
	if err := o.check(); err != nil {
		t.Fatalf("got %v, want all at their limits accepted", err)
	}
	self := newCluster(o, nil).self
	if got := len(appendMeta(nil, &self)); got > maxMetaBytes {
		t.Errorf("got %d bytes, want at most %d", got, maxMetaBytes)
	}
}

func TestMetadataOfANewerVersionMayBeLonger(t *testing.T) {
	n := sampleNode()
	got, err := decodeMeta(append(appendMeta(nil, &n), "and more"...))
	if err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("got %+v, %v, want %+v", got, err, n)
	}
}

func FuzzMeta(f *testing.F) {
	n := sampleNode()
	f.Add(appendMeta(nil, &n))
	f.Add([]byte{metaVersion, flagLeaving, 0})
	f.Add(append([]byte{metaVersion, 0, 0}, bytes.Repeat([]byte{255}, 300)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := decodeMeta(appendMeta(nil, &n))
		if err != nil || !reflect.DeepEqual(n, again) {
			t.Errorf("got %+v, %v after a round trip, want %+v", again, err, n)
		}
	})
}

func FuzzGone(f *testing.F) {
	now := time.Unix(1_700_000_100, 0)
	n := sampleNode()
	n.ID, n.GossipAddr, n.State = "id", "10.0.0.1:7342", StateDead
	f.Add(appendGone(nil, []goneNode{{n, now.Add(-time.Hour)}, {n, now}}, now))
	f.Add([]byte{goneVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		gone, err := decodeGone(b, now)
		if err != nil {
			return
		}
		again, err := decodeGone(appendGone(nil, gone, now), now)
		if err != nil || !reflect.DeepEqual(gone, again) {
			t.Errorf("got %+v, %v after a round trip, want %+v", again, err, gone)
		}
	})
}

func TestTheListOfTheGoneKeepsAgesNotTimes(t *testing.T) {
	there := time.Unix(1_700_000_000, 0)
	here := there.Add(-time.Hour) // a clock that is behind
	n := sampleNode()
	n.ID, n.State = "id", StateLeft
	old := n
	old.ID = "old"
	b := appendGone(nil, []goneNode{{n, there.Add(-time.Minute)}, {old, there.Add(-keepDead)}}, there)
	got, err := decodeGone(b, here)
	if err != nil || len(got) != 1 || got[0].node.State != StateLeft || !got[0].at.Equal(here.Add(-time.Minute)) {
		t.Errorf("got %+v, %v, want one that left a minute ago", got, err)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(hello{"c", "a", "b", KindRaft, 1}.append(nil))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(bytes.NewReader(b))
		if err != nil {
			return
		}
		if again, err := readHello(bytes.NewReader(h.append(nil))); err != nil || again != h {
			t.Errorf("got %+v, %v after a round trip, want %+v", again, err, h)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(appendCallFrame(nil, false, 7, statusOK, []byte("body")))
	f.Add(appendCallFrame(nil, false, 7, statusFailed, appendRefusal(nil, &RemoteError{"code", "text"})))
	f.Add(appendCallFrame(nil, true, 7, statusOK, []byte("body")))
	f.Add([]byte{255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := readFrame(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			return
		}
		if id, head, body, err := decodeCall(frame, true); err == nil {
			if again := appendCallFrame(nil, true, id, head, body); !bytes.Equal(again, b[:len(again)]) {
				t.Errorf("checked: got %x after a round trip, want the start of %x", again, b)
			}
		}
		id, head, body, err := decodeCall(frame, false)
		if err != nil {
			return
		}
		if again := appendCallFrame(nil, false, id, head, body); !bytes.Equal(again, b[:len(again)]) {
			t.Errorf("got %x after a round trip, want the start of %x", again, b)
		}
		a := decodeAnswer(head, body)
		refusal, ok := errors.AsType[*RemoteError](a.err)
		if !ok {
			return
		}
		if again := decodeRefusal(appendRefusal(nil, refusal)); again.Code != refusal.Code || !strings.HasPrefix(refusal.Text, again.Text) {
			t.Errorf("got %v after a round trip, want %v", again, refusal)
		}
	})
}

func TestAFramesLengthIsCheckedBeforeAnythingIsAllocated(t *testing.T) {
	b := []byte{1, 0, 0, 1} // 16 MiB and one
	allocated := testing.AllocsPerRun(10, func() {
		if _, err := readFrame(bufio.NewReaderSize(bytes.NewReader(b), 16), nil); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("got %v, want the limit named", err)
		}
	})
	if allocated > 10 {
		t.Errorf("got %.0f allocations, want a few small ones", allocated)
	}
}
