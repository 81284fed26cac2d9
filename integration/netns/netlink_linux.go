package netns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// request asks the kernel for one change to the namespace of the calling thread,
// and waits for its answer (rtnetlink(7)).
func request(what string, kind, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	head := make([]byte, unix.NLMSG_HDRLEN)
	binary.NativeEndian.PutUint32(head, uint32(len(head)+len(body)))
	binary.NativeEndian.PutUint16(head[4:], kind)
	binary.NativeEndian.PutUint16(head[6:], flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if err := unix.Sendto(fd, append(head, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("%s: the kernel's answer can't be read: %x", what, answer[:n])
	}
	if code := -int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); code != 0 {
		return fmt.Errorf("%s: %w", what, syscall.Errno(code))
	}
	return nil
}

// attribute is a type, a length, and the parts, padded to four bytes.
func attribute(kind uint16, parts ...[]byte) []byte {
	data := slices.Concat(parts...)
	a := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(data)))
	a = append(binary.NativeEndian.AppendUint16(a, kind), data...)
	return append(a, make([]byte, (4-len(a)%4)%4)...)
}

func text(s string) []byte { return append([]byte(s), 0) }

func number(n int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

// link is an ifinfomsg; change tells which of flags are meant.
func link(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL

func addBridge(name string) error {
	return request("make switch "+name, unix.RTM_NEWLINK, create, slices.Concat(link(0, unix.IFF_UP, unix.IFF_UP),
		attribute(unix.IFLA_IFNAME, text(name)),
		attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, []byte("bridge")))))
}

// addCable makes a pair of interfaces: one here, at a bridge, and its other end in a
// namespace.
func addCable(name string, bridge, namespace int, end string) error {
	const vethInfoPeer = 1 // VETH_INFO_PEER
	return request("make cable "+name, unix.RTM_NEWLINK, create, slices.Concat(link(0, unix.IFF_UP, unix.IFF_UP),
		attribute(unix.IFLA_IFNAME, text(name)),
		attribute(unix.IFLA_MASTER, number(bridge)),
		attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, []byte("veth")),
			attribute(unix.IFLA_INFO_DATA, attribute(vethInfoPeer, link(0, 0, 0),
				attribute(unix.IFLA_IFNAME, text(end)),
				attribute(unix.IFLA_NET_NS_FD, number(namespace)))))))
}

func setUp(index int, up bool) error {
	flags := uint32(0)
	if up {
		flags = unix.IFF_UP
	}
	return request("set a link up or down", unix.RTM_NEWLINK, 0, link(index, flags, unix.IFF_UP))
}

func addAddress(index int, p netip.Prefix) error {
	head := []byte{unix.AF_INET, byte(p.Bits()), 0, 0}
	return request("add address "+p.String(), unix.RTM_NEWADDR, create, slices.Concat(head, number(index),
		attribute(unix.IFA_LOCAL, p.Addr().AsSlice()), attribute(unix.IFA_ADDRESS, p.Addr().AsSlice())))
}

// nobody is a hardware address that no interface has: what is sent to it is
// lost, and the sender can't tell.
var nobody = []byte{2, 0xde, 0xad, 0, 0, 0}

// setNeighbour has all that goes to an address go to nobody, or to its owner
// again.
func setNeighbour(index int, to netip.Addr, lost bool) error {
	message := make([]byte, unix.SizeofNdMsg)
	message[0] = unix.AF_INET
	binary.NativeEndian.PutUint32(message[4:], uint32(index))
	binary.NativeEndian.PutUint16(message[8:], unix.NUD_PERMANENT)
	message = append(message, attribute(unix.NDA_DST, to.AsSlice())...)
	if !lost {
		return request("find "+to.String()+" again", unix.RTM_DELNEIGH, 0, message)
	}
	return request("lose "+to.String(), unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		append(message, attribute(unix.NDA_LLADDR, nobody)...))
}
