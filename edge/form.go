package edge

// form is how a connection is given events.
type form uint8

const (
	formPlain form = iota
	formJSON
)

var encodings = [...]encoding{formPlain: plainFrames{}, formJSON: jsonFrames{}}

func (f form) encoding() encoding { return encodings[f] }

// variant is the form of one of a connection's follows.
func (c *conn) variant(f *follow) variant {
	v := variant{form: c.form}
	if c.several && f.numbered {
		v.numbered, v.number = true, f.number
	}
	return v
}
