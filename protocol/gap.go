package protocol

import "strconv"

// GapReason says why events between a cursor and the oldest retained one are
// gone.
type GapReason string

// The reasons of a gap.
const (
	GapExpired      GapReason = "expired"       // retention removed them
	GapDeleted      GapReason = "deleted"       // the topic was deleted
	GapEpochChanged GapReason = "epoch_changed" // the partition's history was replaced
)

// A Gap tells a reader, in-band, which events of a topic it can no longer get.
// From and To are offsets of Epoch, both included.
type Gap struct {
	Topic  string    `json:"topic"`
	Epoch  uint64    `json:"epoch"`
	From   uint64    `json:"from"`
	To     uint64    `json:"to"`
	Reason GapReason `json:"reason"`
}

// AppendGap writes the gap as a JSON object.
func AppendGap(dst []byte, g *Gap) []byte {
	dst = append(dst, `{"topic":`...)
	dst = AppendString(dst, g.Topic)
	dst = append(dst, `,"epoch":`...)
	dst = strconv.AppendUint(dst, g.Epoch, 10)
	dst = append(dst, `,"from":`...)
	dst = strconv.AppendUint(dst, g.From, 10)
	dst = append(dst, `,"to":`...)
	dst = strconv.AppendUint(dst, g.To, 10)
	dst = append(dst, `,"reason":`...)
	dst = AppendString(dst, string(g.Reason))
	return append(dst, '}')
}
