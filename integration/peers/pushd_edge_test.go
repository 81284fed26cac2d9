package peers

import (
	"fmt"
	"net/url"
	"testing"
)

// pushdNode is a pushd as anybody would run it: one node, every event stored and
// synced before its readers get it. protocol is the WebSockets', empty for
// plain ones, which carry payloads as Nchan's do.
func pushdNode(name, protocol string) peer {
	return peer{name: name, start: func(b *testing.B) *server {
		addr := freeAddr(b)
		p := startPinned(b, nil, pushdBinary, "agent", "--node-name", "n1", "--data-dir", b.TempDir(), "--log-level", "error",
			"--client-addr", addr, "--peer-addr", freeAddr(b), "--gossip-addr", freeAddr(b))
		wait(b, "pushd", func() error { return getJSON("http://"+addr+"/readyz", nil) })
		return &server{
			process: p, name: name, addr: addr,
			open: func(k kind, topic int, after string) []byte {
				target := "/v1/events?topic=" + topicName(topic)
				if after != "" {
					target += "&after=" + url.QueryEscape(after)
				}
				switch k {
				case sse:
					return []byte("GET " + target + " HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
				case longPoll:
					return []byte("GET " + target + "&wait=60s HTTP/1.1\r\nHost: x\r\n\r\n")
				}
				return upgrade(target, protocol)
			},
			publish: publishing{
				addr: addr, open: upgrade("/v1/events", "pushd.v1.json"), opened: "\r\n\r\n", refused: `"error":`, appendAll: appendPublishes,
			},
		}
	}}
}

// appendPublishes appends a frame of pushd.v1.json with a command for each event.
func appendPublishes(dst []byte, topics []int, events [][]byte) []byte {
	var commands []byte
	for i, e := range events {
		commands = fmt.Appendf(commands, `{"id":1,"publish":{"topic":%q,"data":%s}}`+"\n", topicName(topics[i]), e)
	}
	return appendFrame(dst, opText, commands[:len(commands)-1])
}
