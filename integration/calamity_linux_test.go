package integration

import (
	"syscall"

	"github.com/pushd/pushd/integration/netns"
)

// calamity is something that goes wrong at a node, and how to mend it.
type calamity struct {
	name   string
	happen func(c *chaos, p *process) (mend func())
}

var calamities = []calamity{
	{"kill", func(_ *chaos, p *process) func() {
		p.kill()
		return p.start
	}},
	{"freeze", func(_ *chaos, p *process) func() {
		p.send(syscall.SIGSTOP)
		return func() { p.send(syscall.SIGCONT) }
	}},
	{"stop", func(_ *chaos, p *process) func() {
		p.terminate()
		return func() {
			<-p.exited
			if code := p.cmd.ProcessState.ExitCode(); code > 0 { // -1: ended by the signal, as in the first milliseconds of a process
				p.t.Errorf("%s: got exit code %d of a planned stop, want 0", p.name, code)
			}
			p.start()
		}
	}},
	{"pull the plug of", func(c *chaos, p *process) func() { return c.cut(c.net.Cut, p) }},
	{"mute", func(c *chaos, p *process) func() { return c.cut(c.net.Mute, p) }},
	{"deafen", func(c *chaos, p *process) func() { return c.cut(c.net.Deafen, p) }},
	{"part one other from", func(c *chaos, p *process) func() {
		other := c.others(p)[c.chance.IntN(len(c.nodes)-1)]
		c.net.CutOneWay(c.hostOf(p), c.hostOf(other))
		c.net.CutOneWay(c.hostOf(other), c.hostOf(p))
		return c.net.Heal
	}},
	{"fill the disk of", func(_ *chaos, p *process) func() {
		p.fill(2)
		return p.unfill
	}},
	{"kill and start at once", func(_ *chaos, p *process) func() {
		p.kill()
		p.start()
		return func() {}
	}},
	{"kill all but", func(c *chaos, p *process) func() {
		for _, other := range c.others(p) {
			if mend := c.faults[other]; mend == nil {
				other.kill()
				c.faults[other] = other.start
			}
		}
		return func() {}
	}},
}

// cut has the network fail until everything is healed.
func (c *chaos) cut(how func(*netns.Host), p *process) func() {
	how(c.hostOf(p))
	return c.net.Heal
}
