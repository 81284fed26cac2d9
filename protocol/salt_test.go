package protocol

import "testing"

// TestSignaturesAreSipHash compares with the vectors of the paper's appendix A
// and of its reference implementation: key 00 01 … 0f, input 00 01 02 ….
func TestSignaturesAreSipHash(t *testing.T) {
	key := Salt{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	input := make([]byte, 16)
	for i := range input {
		input[i] = byte(i)
	}
	for n, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5} {
		if got := key.sign(input[:n]); got != want {
			t.Errorf("%d bytes: got %x, want %x", n, got, want)
		}
	}
}

func TestACursorCantBeMovedBack(t *testing.T) {
	salt := SaltOf("cluster")
	mine := Cursor{Marks: []Mark{{Fingerprint: 7, Offset: 9}}, Lanes: []Lane{{Position: 9}}}
	earlier := Cursor{Marks: []Mark{{Fingerprint: 7, Offset: 9}}, Lanes: []Lane{{Position: 0}}}
	a, b := mine.Text(salt), earlier.Text(SaltOf("a guess"))
	forged := b[:len(b)-8] + a[len(a)-8:]
	for _, text := range []string{b, forged} {
		if _, err := ParseCursor(text, salt); CodeOf(err) != BadCursor {
			t.Errorf("%s: got %v, want code %s", text, err, BadCursor)
		}
	}
}
