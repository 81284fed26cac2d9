// Package protocol holds the words that pushd puts on every wire: topics and
// the selectors that name them, events and their JSON envelope, cursors, start
// positions, gaps, WebSocket frames, errors and the shapes of answers.
//
// It uses the standard library only, does no I/O and starts no goroutine.
// Everything here is a value or a pure function over bytes, so that servers,
// clients and tests share one definition of each word. Encoders append to a
// slice that the caller owns (AppendX(dst, ...) []byte) and decoders never
// allocate a length that the input merely claims.
//
// The contract that these words spell out, for clients:
//
//   - an event never changes once it has an offset;
//   - offsets of one topic and epoch are dense: 1, 2, 3, …;
//   - a cursor says that everything up to it has been delivered, for exactly
//     the selectors of one reader, on whichever transport and node;
//   - whatever was lost to retention or deletion is reported as a [Gap];
//   - a refusal is an [Error], whose Code is stable and listed in error.go.
package protocol
