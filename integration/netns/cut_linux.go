package netns

// Cut pulls a host's plug at the switch of peers: it reaches no other host, and
// none reaches it.
func (n *Net) Cut(h *Host) {
	n.t.Helper()
	n.must(setUp(h.port, false))
}

// CutOneWay loses all that one host sends to another, silently. What the other
// one sends still arrives.
func (n *Net) CutOneWay(from, to *Host) {
	n.t.Helper()
	n.must(from.in(func() error { return setNeighbour(from.end, to.Peer, true) }))
	n.lost[[2]*Host{from, to}] = true
}

// Mute loses all that a host sends to any other; it still hears them.
func (n *Net) Mute(h *Host) {
	n.t.Helper()
	for _, other := range n.hosts {
		if other != h {
			n.CutOneWay(h, other)
		}
	}
}

// Deafen loses all that others send to a host; they still hear it.
func (n *Net) Deafen(h *Host) {
	n.t.Helper()
	for _, other := range n.hosts {
		if other != h {
			n.CutOneWay(other, h)
		}
	}
}

// Heal undoes every cut.
func (n *Net) Heal() {
	n.t.Helper()
	for _, h := range n.hosts {
		n.must(setUp(h.port, true))
	}
	for pair := range n.lost {
		n.must(pair[0].in(func() error { return setNeighbour(pair[0].end, pair[1].Peer, false) }))
	}
	clear(n.lost)
}
