package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pushd/pushd/cmd/node"
)

// limitFlags bound what clients may do.
func limitFlags() []cli.Flag {
	number := func(name, env, usage string) cli.Flag {
		return &cli.IntFlag{Name: name, EnvVars: []string{"PUSHD_" + env}, Usage: usage}
	}
	return []cli.Flag{
		number("max-connections", "MAX_CONNECTIONS", "`N` connections of clients (default: what the limit on open files leaves)"),
		number("max-connections-per-address", "MAX_CONNECTIONS_PER_ADDRESS", "`N` connections of one client address, or /64 network of IPv6 (default: any number)"),
		number("max-readers", "MAX_READERS", "`N` clients that follow events (default: 65536)"),
		number("max-frame-bytes", "MAX_FRAME_BYTES", "`N` bytes of one WebSocket frame from a client (default: as a message)"),
		number("max-message-bytes", "MAX_MESSAGE_BYTES", "`N` bytes of one WebSocket message from a client, inflated (default: the biggest event and some)"),
		number("max-subscriptions", "MAX_SUBSCRIPTIONS", "`N` subscriptions of one WebSocket (default: 128)"),
		number("max-commands-per-second", "MAX_COMMANDS_PER_SECOND", "`N` commands of one WebSocket in a second (default: any number)"),
		&cli.DurationFlag{Name: "handshake-timeout", EnvVars: []string{"PUSHD_HANDSHAKE_TIMEOUT"}, Usage: "`TIME` for a PROXY header and a TLS handshake, and again for a request's headers (default: 10s)"},
		&cli.DurationFlag{Name: "stall-timeout", EnvVars: []string{"PUSHD_STALL_TIMEOUT"}, Usage: "`TIME` after which a client that takes nothing of what it is sent is cut (default: 30s)"},
	}
}

// readLimits takes over the flags that are set.
func readLimits(c *cli.Context, l *node.Limits) {
	readSet(c, c.Int, map[string]*int{
		"max-frame-bytes": &l.FrameBytes, "max-message-bytes": &l.MessageBytes,
		"max-connections": &l.Connections, "max-connections-per-address": &l.ConnectionsPerAddress, "max-readers": &l.Readers,
		"max-subscriptions": &l.Subscriptions, "max-commands-per-second": &l.CommandsPerSecond,
	})
	readSet(c, c.Duration, map[string]*time.Duration{"handshake-timeout": &l.HandshakeTimeout, "stall-timeout": &l.StallTimeout})
}
