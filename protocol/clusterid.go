package protocol

import (
	"strconv"
	"strings"
)

// recoveredMark stands in a cluster's id before the number of its recovery: a
// cluster that carried on by force after it had lost a quorum is another one
// than that of the nodes which were given up, and yet has its events and cursors.
const recoveredMark = "~"

// Recoveries tells the cluster's first id, and how often it was recovered since.
func Recoveries(clusterID string) (origin string, recoveries int) {
	origin, rest, found := strings.Cut(clusterID, recoveredMark)
	if !found {
		return origin, 0
	}
	number, _, _ := strings.Cut(rest, ".")
	recoveries, _ = strconv.Atoi(number) // not one of ours: never recovered
	return origin, recoveries
}

// RecoveredID is the id of a cluster after its next recovery. mark tells recoveries
// of one cluster, by whomever, from each other.
func RecoveredID(clusterID, mark string) string {
	origin, recoveries := Recoveries(clusterID)
	return origin + recoveredMark + strconv.Itoa(recoveries+1) + "." + mark
}
