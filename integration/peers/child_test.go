package peers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// childVariable names the peer that a process of this binary is to be.
const childVariable = "PUSHD_PEERS_SERVE"

// child is a peer that this binary serves: it gives its addresses, and serves
// until its process ends.
type child func() (childAddrs, error)

// childAddrs is what a child prints first.
type childAddrs struct{ Clients, Publish string }

var children = map[string]child{"floor": serveFloor, "centrifuge": serveCentrifuge, "nats": serveNATS}

// serveChild runs until its standard input ends, which it does with the process
// that started it. A line there is a request to collect garbage.
func serveChild(name string) int {
	addrs, err := children[name]()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(addrs)
	for in := bufio.NewReader(os.Stdin); ; {
		if _, err := in.ReadString('\n'); err != nil {
			return 0
		}
		debug.FreeOSMemory()
		_ = out.Encode(addrs)
	}
}

// startChild runs a peer in a process of its own, on the servers' CPU.
func startChild(b *testing.B, name string, env ...string) (*process, childAddrs) {
	b.Helper()
	p := startPinned(b, append(env, childVariable+"="+name), os.Args[0])
	var addrs childAddrs
	if err := json.NewDecoder(p.stdout).Decode(&addrs); err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	return p, addrs
}

// readLines calls take with each line of a publisher's connection: a topic, a
// space and an event.
func readLines(r io.Reader, take func(topic, event string)) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		topic, event, _ := strings.Cut(lines.Text(), " ")
		take(topic, event)
	}
}

// serveLines takes publishers' connections.
func serveLines(take func(topic, event string)) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go readLines(conn, take)
		}
	}()
	return l.Addr().String(), nil
}

// lines is publishing by such lines.
func lines(addr string) publishing {
	return publishing{addr: addr, appendAll: func(dst []byte, topics []int, events [][]byte) []byte {
		for i, e := range events {
			dst = append(append(dst, topicName(topics[i])...), ' ')
			dst = append(append(dst, e...), '\n')
		}
		return dst
	}}
}
