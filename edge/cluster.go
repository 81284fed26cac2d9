package edge

import (
	"net/http"

	"github.com/pushd/pushd/protocol"
)

// clusterStatus answers GET /v1/cluster.
func (s *Server) clusterStatus(w http.ResponseWriter, r *http.Request) error {
	if s.options.Cluster == nil {
		return protocol.NoSuchRoute.Errorf("this node knows no cluster")
	}
	return writeJSON(w, http.StatusOK, s.options.Cluster.Status(r.Context()))
}
