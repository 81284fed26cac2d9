package protocol

import (
	"reflect"
	"testing"
)

var cursorSamples = []Cursor{
	{Marks: []Mark{{Fingerprint: 0x0123456789ab, Offset: 7}}, Lanes: []Lane{{Partition: 3, Position: 1_000_000}}},
	{Marks: []Mark{{1, 0}, {2, 300}}, Lanes: []Lane{{Position: 1, Marks: 1}, {Position: 9, Marks: 2}, {Partition: 63, Position: 1 << 40}}},
	{Set: 1<<63 + 5, Lanes: []Lane{{}, {Partition: 1, Position: 5}}},
	{Marks: []Mark{}, Lanes: []Lane{}},
	{Marks: []Mark{{1, 0}}, Lanes: []Lane{{Position: 1, Began: 1 << 40, Since: 1 << 60, Last: 3}, {Partition: 1, Position: 5}}},
}

func TestACursorComesBackAsItWas(t *testing.T) {
	for _, c := range cursorSamples {
		text := c.Text(SaltOf("42"))
		got, err := ParseCursor(text, SaltOf("42"))
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("ParseCursor(%s): got %+v, %v, want %+v", text, got, err, c)
		}
	}
}

func TestADamagedCursorIsRefusedWhicheverByteIsHit(t *testing.T) {
	text := []byte(cursorSamples[1].Text(SaltOf("42")))
	for i := range text {
		hit := append([]byte(nil), text...)
		hit[i] ^= 1
		if _, err := ParseCursor(string(hit), SaltOf("42")); CodeOf(err) != BadCursor {
			t.Errorf("byte %d of %s changed: got %v, want code %s", i, text, err, BadCursor)
		}
		if _, err := ParseCursor(string(text[:i]), SaltOf("42")); CodeOf(err) != BadCursor {
			t.Errorf("%s cut at %d: got %v, want code %s", text, i, err, BadCursor)
		}
	}
}

func TestACursorOfAnotherClusterIsRefused(t *testing.T) {
	if _, err := ParseCursor(cursorSamples[0].Text(SaltOf("1")), SaltOf("2")); CodeOf(err) != BadCursor {
		t.Errorf("cursor made with salt 1, read with salt 2: got %v, want code %s", err, BadCursor)
	}
}

func TestACursorOfASingleTopicStaysShort(t *testing.T) {
	if n := len(cursorSamples[0].Text(SaltOf("1"))); n > 32 {
		t.Errorf("cursor of one topic: got %d characters, want at most 32", n)
	}
}

func TestASetOfSelectorsHasOneFingerprintInAnyOrder(t *testing.T) {
	a, _ := ParseSelectors([]string{"a", "b", "c.*"})
	b, _ := ParseSelectors([]string{"c.*", "a", "b"})
	c, _ := ParseSelectors([]string{"a", "b", "c.**"})
	if SetFingerprint(a) != SetFingerprint(b) || SetFingerprint(a) == SetFingerprint(c) {
		t.Errorf("fingerprints: got %x, %x, %x, want the first two alike and the last different", SetFingerprint(a), SetFingerprint(b), SetFingerprint(c))
	}
}

func FuzzParseCursor(f *testing.F) {
	for _, c := range cursorSamples {
		f.Add(c.Text(SaltOf("0")))
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCursor(text, SaltOf("0"))
		if _, ok := CursorCovers(text, nil); err == nil && !ok {
			t.Fatalf("%s: a cursor that covers nothing it could be asked for", text)
		}
		if err != nil {
			return
		}
		again, err := ParseCursor(c.Text(SaltOf("0")), SaltOf("0"))
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%q: got %+v, then %+v, %v", text, c, again, err)
		}
	})
}

// FuzzCursorBody reaches behind the checksum, which random text never passes.
func FuzzCursorBody(f *testing.F) {
	f.Add([]byte{1, 1, 2, 3, 4, 5, 6, 7, 1, 0, 0, 0})
	f.Add([]byte{cursorSet, 1, 2, 3, 4, 5, 6, 7, 8, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0 {
			parseCursorBody(cursorVersion, b)
			parseCursorBody(cursorBegan, b)
		}
	})
}

func BenchmarkCursorAppend(b *testing.B) {
	b.ReportAllocs()
	salt, buf := SaltOf("42"), make([]byte, 0, 256)
	for b.Loop() {
		buf = cursorSamples[0].Append(buf[:0], salt)
	}
}

func TestAppendingACursorAllocatesNothing(t *testing.T) {
	salt, buf := SaltOf("42"), make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { buf = cursorSamples[0].Append(buf[:0], salt) }); n != 0 {
		t.Errorf("Cursor.Append: got %v allocations, want 0", n)
	}
}

func TestACursorCoversWhatItWasIssuedFor(t *testing.T) {
	list, _ := ParseSelectors([]string{"a", "b.*", "c"})
	some := Cursor{Marks: []Mark{{Fingerprint: list[0].Fingerprint()}, {Fingerprint: list[1].Fingerprint()}}, Lanes: []Lane{{Position: 1}}}
	if got, ok := CursorCovers(some.Text(SaltOf("x")), list); !ok || !reflect.DeepEqual(got, []bool{true, true, false}) {
		t.Errorf("of two marks: got %v, %v, want the first two", got, ok)
	}
	all := Cursor{Set: SetFingerprint(list), Lanes: []Lane{{Position: 1}}}
	if got, ok := CursorCovers(all.Text(SaltOf("x")), list); !ok || !reflect.DeepEqual(got, []bool{true, true, true}) {
		t.Errorf("of the whole set: got %v, %v, want all", got, ok)
	}
	if got, ok := CursorCovers(all.Text(SaltOf("x")), list[:2]); !ok || !reflect.DeepEqual(got, []bool{false, false}) {
		t.Errorf("of another set: got %v, %v, want none", got, ok)
	}
}
