package node

import "strconv"

// appendMetrics writes what the parts below the edge tell of themselves, in
// Prometheus' text format.
func (n *Node) appendMetrics(b []byte) []byte {
	s := n.presence.Stats()
	b = appendMetric(b, "pushd_presence_topics", "gauge", "Topics with members by way of this node.", float64(s.Topics))
	b = appendMetric(b, "pushd_presence_members", "gauge", "Members by way of this node, once per topic.", float64(s.Members))
	b = appendMetric(b, "pushd_presence_followed_topics", "gauge", "Topics whose members at all nodes are followed here.", float64(s.Followed))
	b = appendMetric(b, "pushd_presence_nodes_behind", "gauge", "Nodes of whose members something is not known here yet.", float64(s.Behind))
	b = appendMetric(b, "pushd_presence_changes_total", "counter", "Changes of members by way of this node.", float64(s.Changes))
	b = appendMetric(b, "pushd_presence_questions_total", "counter", "Questions about members to other nodes.", float64(s.Asked))
	b = appendMetric(b, "pushd_presence_questions_failed_total", "counter", "Questions about members that were not answered.", float64(s.Unheard))
	return n.webhooks.AppendMetrics(b)
}

func appendMetric(b []byte, name, kind, help string, value float64) []byte {
	for _, part := range []string{"# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n", name, " "} {
		b = append(b, part...)
	}
	return append(strconv.AppendFloat(b, value, 'g', -1, 64), '\n')
}
