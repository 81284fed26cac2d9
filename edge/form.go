package edge

// form is how a connection is given events.
type form uint8

const (
	formPlain form = iota
	formJSON
	forms // how many there are
)

var (
	encodings = [forms]encoding{formPlain: plainFrames{}, formJSON: jsonFrames{}}
	formNames = [forms]string{formPlain: "websocket_plain", formJSON: "websocket_json"}
)

func (f form) encoding() encoding { return encodings[f] }

// variant is the form of one of a connection's follows.
func (c *conn) variant(f *follow) variant {
	v := variant{form: c.form}
	if c.several && f.numbered {
		v.numbered, v.number = true, f.number
	}
	return v
}
