package peers

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// The floor is what no server can go below that calls the kernel once for each
// delivery: a loop of sendto over blocking sockets, with the frame ready. It is
// as good as nothing else: no epoll, no reads, no limits.
func floor() peer {
	return peer{name: "floor", words: "a loop of sendto over blocking sockets, nothing else; a send for each delivery", start: func(b *testing.B) *server {
		p, addrs := startChild(b, "floor")
		publish := lines(addrs.Publish)
		control, err := net.Dial("tcp", addrs.Publish)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = control.Close() })
		return &server{
			process: p, name: "floor", addr: addrs.Clients,
			open: func(_ kind, topic int, _ string) []byte {
				return []byte("GET " + topicName(topic) + " HTTP/1.1\r\n\r\n")
			},
			publish: publish,
			forget:  func() { _, _ = control.Write([]byte("forget\n")) },
		}
	}}
}

// bareSockets are a topic's.
type bareSockets struct {
	mu     sync.Mutex
	topics map[string][]int
}

func serveFloor() (childAddrs, error) {
	s := &bareSockets{topics: make(map[string][]int)}
	listener, addr, err := s.listen()
	if err != nil {
		return childAddrs{}, err
	}
	go s.accept(listener)
	publish, err := serveLines(s.send)
	return childAddrs{Clients: addr, Publish: publish}, err
}

// listen opens a socket outside the runtime's poller, so that it wakes nobody.
func (s *bareSockets) listen() (int, string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, "", err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, "", err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return 0, "", err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, "", err
	}
	at := name.(*unix.SockaddrInet4)
	return fd, (&net.TCPAddr{IP: at.Addr[:], Port: at.Port}).String(), nil
}

func (s *bareSockets) accept(listener int) {
	buf := make([]byte, 4096)
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err != nil {
			continue
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		n, err := unix.Read(fd, buf)
		fields := strings.Fields(string(buf[:max(n, 0)]))
		if err != nil || len(fields) < 2 {
			_ = unix.Close(fd)
			continue
		}
		s.mu.Lock()
		s.topics[fields[1]] = append(s.topics[fields[1]], fd)
		s.mu.Unlock()
		_, _ = unix.Write(fd, []byte("HTTP/1.1 101 \r\n\r\n"))
	}
}

func (s *bareSockets) send(topic, event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if topic == "forget" {
		for _, fds := range s.topics {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		}
		clear(s.topics)
		return
	}
	var frame bytes.Buffer
	frame.Write([]byte{0x80 | opText, 126, byte(len(event) >> 8), byte(len(event))})
	frame.WriteString(event)
	for _, fd := range s.topics[topic] {
		_ = unix.Send(fd, frame.Bytes(), unix.MSG_NOSIGNAL)
	}
}
