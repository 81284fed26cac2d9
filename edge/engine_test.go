package edge

import (
	"flag"
	"os"
	"runtime"
	"testing"
)

// noEpoll is the engine that tests run on.
var noEpoll bool

// TestMain runs every test on each engine: epoll where there is one, and the
// goroutines that stand in for it.
func TestMain(m *testing.M) {
	flag.Parse()
	code := 0
	if runtime.GOOS == "linux" {
		code = m.Run()
	}
	noEpoll = true
	special := flag.Lookup("test.fuzz").Value.String() != "" || flag.Lookup("test.bench").Value.String() != "" || flag.Lookup("test.list").Value.String() != ""
	if code == 0 && !(special && runtime.GOOS == "linux") {
		code = m.Run()
	}
	os.Exit(code)
}
