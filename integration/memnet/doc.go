// Package memnet is a network in memory, for tests in fake time, where sockets
// don't work.
//
// A [Network] has hosts by IP. [Network.Transport] is a memberlist transport at
// one address, [Network.Listen] and [Network.Dial] are streams over net.Pipe.
// [Network.Cut] parts two sides: packets between them are dropped, dials hang
// until their time-out as with a real cut, and the connections that cross it
// break. [Network.CutOneWay] loses what one side sends only, and [Network.Heal]
// ends all cuts. [Network.Pause] holds what a host sends and is sent.
//
// Packets to an address where nobody listens, or whose reader is behind, are
// dropped, never waited for: memberlist's own mock blocks on them for ever.
// Delivery takes no time.
//
// Everything may be used by any goroutine.
package memnet
