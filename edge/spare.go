package edge

import (
	"os"
	"time"
)

// spare is a descriptor that is held so that it can be given up: a process that
// has no more could not even accept a connection to close it, and its clients
// would hang until somebody else's connection ends.
type spare struct {
	file *os.File
	told time.Time // when the log was
}

// hold takes the descriptor, if there is one left.
func (p *spare) hold() bool {
	if p.file == nil {
		p.file, _ = os.Open(os.DevNull)
	}
	return p.file != nil
}

func (p *spare) giveUp() {
	if p.file != nil {
		_ = p.file.Close()
		p.file = nil
	}
}

// acceptAnyway accepts a connection without a descriptor for it, and closes it,
// unless there are descriptors again meanwhile.
func (s *Server) acceptAnyway(p *spare, accept func() (incoming, error)) (in incoming, served bool, err error) {
	if now := time.Now(); now.Sub(p.told) > spareSilence {
		p.told = now
		s.log.Warn("no descriptors are left, so new connections are closed; raise the limit on open files")
	}
	if !p.hold() {
		time.Sleep(acceptPause)
		return in, false, nil
	}
	p.giveUp()
	in, err = accept()
	switch {
	case err != nil && outOfDescriptors(err): // somebody else has taken it
		time.Sleep(acceptPause)
		return in, false, nil
	case err != nil:
		return in, false, err
	case p.hold():
		return in, true, nil
	}
	s.reached.add(boundConnections)
	in.close()
	p.hold()
	return in, false, nil
}
