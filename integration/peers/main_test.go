package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the pushd that is measured, built from this checkout.
var binary string

// TestMain is also the main function of each JetStream server: this binary,
// started again.
func TestMain(m *testing.M) {
	if config := os.Getenv(jetStreamVariable); config != "" {
		os.Exit(serveJetStream(config))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pushd-peers-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "pushd")
	build := exec.Command("go", "build", "-o", binary, "./cmd/pushd")
	build.Dir = filepath.Join("..", "..") // there, since the module with pushd's dependencies is that one
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building pushd: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
