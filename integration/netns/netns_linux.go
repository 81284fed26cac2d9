package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Interfaces of a host's namespace.
const (
	peerEnd   = "peers"
	clientEnd = "clients"
)

// Net is the networks of one test. All methods are the test's goroutine's; what
// the kernel refuses ends the test.
type Net struct {
	t              testing.TB
	own            *os.File // the test's namespace
	peers, clients int      // the switches
	hosts          []*Host
	lost           map[[2]*Host]bool // cut one way: from, to
}

// Host is a namespace for one node.
type Host struct {
	Peer, Client netip.Addr // where it is for other hosts, and for the test

	net  *Net
	ns   *os.File
	port int // of the switch of peers
	end  int // the other end of that cable, in ns
}

// New makes both switches. See [Inside].
func New(t testing.TB) *Net {
	t.Helper()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	n := &Net{t: t, own: own, lost: map[[2]*Host]bool{}}
	n.must(up("lo"))
	n.peers = n.addSwitch("peers")
	n.clients = n.addSwitch("clients")
	n.must(addAddress(n.clients, netip.PrefixFrom(clientAddr(254), 24)))
	return n
}

// Here is where this process is for the hosts.
func (n *Net) Here() netip.Addr { return clientAddr(254) }

func peerAddr(i byte) netip.Addr   { return netip.AddrFrom4([4]byte{10, 77, 0, i}) }
func clientAddr(i byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 78, 0, i}) }

func (n *Net) addSwitch(name string) (index int) {
	n.t.Helper()
	n.must(addBridge(name))
	index, err := indexOf(name)
	n.must(err)
	return index
}

// AddHost makes one more host, connected to both switches.
func (n *Net) AddHost() *Host {
	n.t.Helper()
	i := byte(len(n.hosts) + 1)
	h := &Host{Peer: peerAddr(i), Client: clientAddr(i), net: n}
	n.must(onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		h.ns, err = os.Open("/proc/thread-self/ns/net")
		return errors.Join(err, n.goBack())
	}))
	peerPort, clientPort := fmt.Sprint("p", i), fmt.Sprint("c", i)
	n.must(addCable(peerPort, n.peers, int(h.ns.Fd()), peerEnd))
	n.must(addCable(clientPort, n.clients, int(h.ns.Fd()), clientEnd))
	n.must(h.in(func() (err error) {
		err = errors.Join(up("lo"), furnish(peerEnd, h.Peer), furnish(clientEnd, h.Client))
		if err == nil {
			h.end, err = indexOf(peerEnd)
		}
		return err
	}))
	var err error
	h.port, err = indexOf(peerPort)
	n.must(err)
	n.hosts = append(n.hosts, h)
	return h
}

// Start starts a command as a process of the host, which ends with this one.
func (h *Host) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return h.in(cmd.Start)
}

// in runs f on a thread in the host's namespace.
func (h *Host) in(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return errors.Join(f(), h.net.goBack())
	})
}

func (n *Net) goBack() error {
	return os.NewSyscallError("setns", unix.Setns(int(n.own.Fd()), unix.CLONE_NEWNET))
}

// onThread runs f on a thread that no other goroutine uses meanwhile, and that
// goes on afterwards: processes that it starts would end with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := f()
		if err == nil {
			runtime.UnlockOSThread() // else it may be in the wrong namespace, and ends
		}
		done <- err
	}()
	return <-done
}

func furnish(name string, addr netip.Addr) error {
	index, err := indexOf(name)
	if err != nil {
		return err
	}
	return errors.Join(addAddress(index, netip.PrefixFrom(addr, 24)), setUp(index, true))
}

func up(name string) error {
	index, err := indexOf(name)
	if err != nil {
		return err
	}
	return setUp(index, true)
}

func indexOf(name string) (int, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	return i.Index, nil
}

func (n *Net) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatalf("network of the test: %v", err)
	}
}
