package edge

import "github.com/gobwas/ws"

// form is how a connection is given events.
type form uint8

const (
	formPlain form = iota
	formJSON
	formBinary
	formSSE
	formSSEEnvelope
	formPoll // answers are put together for each
	forms    // how many there are
)

var (
	encodings = [forms]encoding{
		formPlain: plainFrames{}, formJSON: jsonFrames{}, formBinary: binaryFrames{},
		formSSE: sseBlocks{}, formSSEEnvelope: sseBlocks{envelope: true},
	}
	formNames = [forms]string{
		formPlain: "websocket_plain", formJSON: "websocket_json", formBinary: "websocket_binary",
		formSSE: "sse", formSSEEnvelope: "sse_envelope", formPoll: "long_poll",
	}
)

func (f form) encoding() encoding { return encodings[f] }

// line makes a frame of a line of pushd.v1.json.
func (f form) line(payload func(dst []byte) []byte) []byte {
	if f == formBinary {
		return appendBinary(nil, payload(nil))
	}
	dst, start := openFrame(nil)
	return closeFrame(payload(dst), start, ws.OpText)
}

// variant is the form of one of a connection's follows.
func (c *conn) variant(f *follow) variant {
	v := variant{form: c.form, window: c.window}
	if c.several && f.number != nil {
		v.numbered, v.number = true, *f.number
	}
	return v
}
