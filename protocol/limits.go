package protocol

// Limits of the words on the wire. What a server may configure to be smaller
// or larger is checked there; these bound what can be expressed at all.
const (
	MaxTopicBytes      = 255     // a topic or a pattern
	MaxLabelBytes      = 255     // an event's id or type
	MaxContentType     = 255     // bytes of a content type
	MaxHeaders         = 32      // headers of one event
	MaxHeaderNameBytes = 128     // one header's name
	MaxHeaderBytes     = 8 << 10 // all names and values of one event's headers
	MaxEventBytes      = 8 << 20 // payload; servers default to DefaultEventBytes
	DefaultEventBytes  = 1 << 20 // payload, unless configured
	MaxSelectors       = 128     // topics and patterns of one subscribe
	MaxCursorText      = 4 << 10 // characters of a cursor
	MaxMarks           = 32      // selectors that a cursor tells apart
	MaxPartitions      = 1 << 10 // partitions of a cluster
	MaxTokenBytes      = 8 << 10 // a token, of whatever kind
	MaxInfoBytes       = 1 << 10 // what a member of a topic says of itself
	MaxPageMembers     = 1000    // limit= of a list of members, and the members that one push names
	MaxPageEvents      = 1000    // limit= of a poll
	DefaultPageEvents  = 100     // limit= unset
	MaxBatchEvents     = 1000    // events of one POST /v1/events
	MaxFrameCommands   = 256     // commands in one WebSocket frame
	MaxLastEvents      = 1 << 20 // N of a start at -N
)
