package edge

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/pushd/pushd/protocol"
)

// clusterStatus answers GET /v1/cluster.
func (s *Server) clusterStatus(w http.ResponseWriter, r *http.Request) error {
	if s.options.Cluster == nil {
		return protocol.NoSuchRoute.Errorf("this node knows no cluster")
	}
	return writeJSON(w, http.StatusOK, s.options.Cluster.Status(r.Context()))
}

// changeCluster answers POST /v1/cluster/…: 202, since the cluster does it from
// then on.
func (s *Server) changeCluster(kind protocol.ChangeKind) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.options.Cluster == nil {
			return protocol.NoSuchRoute.Errorf("this node knows no cluster")
		}
		body, err := readBody(w, r, maxChangeBody)
		if err != nil {
			return err
		}
		change, err := parseChange(kind, body, r)
		if err != nil {
			return err
		}
		changed, err := s.options.Cluster.Change(r.Context(), change)
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusAccepted, changed)
	}
}

// parseChange reads the body, which may be empty where the path says it all.
func parseChange(kind protocol.ChangeKind, body []byte, r *http.Request) (c protocol.ClusterChange, err error) {
	if len(bytes.TrimSpace(body)) > 0 {
		if err := decodeStrict(body, &c, "the body", `{"from":"n1","to":"n2"} or {"force":true}`); err != nil {
			return c, err
		}
	}
	c.Kind, c.Node = kind, r.PathValue("node")
	if text := r.PathValue("partition"); text != "" {
		id, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return c, protocol.BadRequest.Errorf("partition %s: must be its number, from 0", clip(text))
		}
		c.Partition = uint16(id)
	}
	if kind == protocol.Transfer && c.To == "" || kind == protocol.Move && (c.To == "" || c.From == "") {
		return c, protocol.BadRequest.Errorf(`name the nodes in the body: {"to":"n2"} for a transfer, {"from":"n1","to":"n2"} for a move`)
	}
	return c, nil
}
