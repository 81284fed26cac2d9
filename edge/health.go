package edge

import (
	"net/http"

	"github.com/pushd/pushd/protocol"
)

// livez says that the process answers.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "live"})
}

// readyz says whether to send clients here, and why not.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) error {
	if s.draining.Err() != nil {
		return errDraining()
	}
	if s.options.Health != nil {
		if err := s.options.Health.Ready(); err != nil {
			return protocol.NoLeader.Errorf("not ready: %v", err)
		}
	}
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}
