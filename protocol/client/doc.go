// Package client is the Go client of pushd: it publishes, and subscribes over
// any of the four delivery systems behind one type.
//
// A [Client] knows several servers and uses the one that answers. Publishing
// gives every event an id, so that trying again, at another server and after a
// failover, stores it once. A [Subscription] keeps its cursor and comes back
// with it by itself: the caller sees every event once, and a gap where events
// are gone.
//
// A Client may be used by any goroutine; a Subscription's Next by one at a time.
package client
