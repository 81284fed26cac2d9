package protocol

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

func sampleSnapshot(t testing.TB) []byte {
	b, err := AppendSnapshotHead(nil, &SnapshotHead{ClusterID: "c", Taken: time.Unix(1, 0).UTC(), Partitions: 8, Policies: []Policy{{Pattern: "a", MaxEvents: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	b = AppendSnapshotEvent(b, &Event{Topic: "a", Offset: 7, Epoch: 3, ID: "x", Time: 5, Data: []byte("payload")})
	return AppendSnapshotEnd(b, 1)
}

func parts(b []byte) (list []SnapshotPart, err error) {
	n, err := SnapshotPreamble(b)
	for b = b[n:]; err == nil && len(b) > 0; b = b[n:] {
		var p SnapshotPart
		if p, n, err = NextSnapshotPart(b); n == 0 {
			return list, err
		}
		list = append(list, p)
	}
	return list, err
}

func TestASnapshotComesBackAsItWas(t *testing.T) {
	list, err := parts(sampleSnapshot(t))
	if err != nil || len(list) != 3 || list[0].Head.Partitions != 8 || list[2].End.Events != 1 {
		t.Fatalf("got %+v, %v", list, err)
	}
	want := Event{Topic: "a", Offset: 7, Epoch: 3, ID: "x", Time: 5, Data: []byte("payload")}
	if !reflect.DeepEqual(*list[1].Event, want) {
		t.Errorf("got %+v, want %+v", *list[1].Event, want)
	}
}

func TestASnapshotWithAnyBitWrongIsKnownForIt(t *testing.T) {
	good := sampleSnapshot(t)
	for bit := range 8 * len(good) {
		b := append([]byte(nil), good...)
		b[bit/8] ^= 1 << (bit % 8)
		if list, err := parts(b); err == nil && len(list) == 3 {
			t.Errorf("bit %d was wrong, and nobody noticed", bit)
		}
	}
}

func FuzzNextSnapshotPart(f *testing.F) {
	f.Add(sampleSnapshot(f)[snapshotPreamble:])
	f.Fuzz(func(t *testing.T, b []byte) {
		p, n, err := NextSnapshotPart(b)
		if n > len(b) || err != nil && n != 0 && !errors.Is(err, ErrSnapshot) {
			t.Errorf("%d of %d bytes, %v", n, len(b), err)
		}
		if err == nil && n > 0 && p.Event != nil && len(AppendSnapshotEvent(nil, p.Event)) == 0 {
			t.Errorf("an event that can't be written")
		}
	})
}
