package protocol

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// A Salt is the secret of a cluster that its cursors are signed by: who takes a
// cursor to pieces can't make one that begins earlier, which would take the right
// to read what was before.
type Salt struct{ k0, k1 uint64 }

// SaltOf derives it from a text that clients don't get to see.
func SaltOf(secret string) Salt {
	sum := sha256.Sum256([]byte("pushd cursor\x00" + secret))
	return Salt{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
}

// sign is SipHash-2-4 (Aumasson and Bernstein, 2012): as hard to forge as its 64
// bits, of which a cursor has 48, for some 20 ns, which each event's cursor costs.
func (s Salt) sign(b []byte) uint64 {
	v0, v1 := s.k0^0x736f6d6570736575, s.k1^0x646f72616e646f6d
	v2, v3 := s.k0^0x6c7967656e657261, s.k1^0x7465646279746573
	last := uint64(len(b)) << 56
	for ; len(b) >= 8; b = b[8:] {
		m := binary.LittleEndian.Uint64(b)
		v3 ^= m
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0 ^= m
	}
	for i, c := range b {
		last |= uint64(c) << (8 * i)
	}
	v3 ^= last
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0 ^= last
	v2 ^= 0xff
	for range 4 {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	return v0 ^ v1 ^ v2 ^ v3
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}

// saltBytes are those of a cursor's signature.
const saltBytes = 6

// appendSignature writes the signature of b[start:] behind it.
func (s Salt) appendSignature(b []byte, start int) []byte {
	sum := s.sign(b[start:])
	return append(b, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24), byte(sum>>32), byte(sum>>40))
}

// signed says whether b ends with the signature of what stands before.
func (s Salt) signed(b []byte) bool {
	at := len(b) - saltBytes
	sum, want := s.sign(b[:at]), uint64(0)
	for i, c := range b[at:] {
		want |= uint64(c) << (8 * i)
	}
	return sum&(1<<(8*saltBytes)-1) == want
}
