//go:build !linux

package cluster

import (
	"net"
	"time"
)

// limitSilence does nothing where the socket option does not exist: calls have
// their pings, and writes their deadline.
func limitSilence(*net.TCPConn, time.Duration) error { return nil }
