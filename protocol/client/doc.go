// Package client is the Go client of pushd: it publishes, and subscribes over
// any of the four delivery systems behind one type.
//
// A [Client] knows several servers and uses the one that answers: one that is
// dead, hangs, drains or is overloaded is left for the next. Every event gets an
// id, so that trying again, at another server and after a failover, stores it
// once. There are three ways to publish:
//
//   - [Client.Publish] stores one event and says where; the only one with If-Match.
//   - [Client.Writer] (and [Client.PublishAll]) stores a stream of events in
//     exactly the order in which they are written, over any failover.
//   - [Client.Publisher] has many independent events under way at once.
//
// A [Subscription] keeps its cursor and comes back with it by itself: the
// caller sees every event once and in its topic's order, and a gap where events
// are gone. It reads only when Next is called, so a slow caller needs no memory
// here; a server that ended a connection meanwhile is asked again.
//
// Errors of the server are *[protocol.Error] values; [ErrUnreachable] says that
// no server answered.
//
// A Client, a Publisher and a Writer may be used by any goroutine (a Writer's
// order is that of the calls), a Subscription by one at a time. A Publisher and
// a Writer run goroutines of their own, which Close waits for.
package client
