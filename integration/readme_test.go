package integration

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestTheReadmesCommandsDoWhatItSays runs the README's curl lines as they
// stand, in their order, against a node of its own.
func TestTheReadmesCommandsDoWhatItSays(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed, and the README's lines are curl's")
	}
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	p := startNode(t, "readme")
	cursor := "earliest"
	ran := 0
	for _, line := range regexp.MustCompile(`(?m)^\$ (curl .*)$`).FindAllStringSubmatch(string(text), -1) {
		command, _, _ := strings.Cut(line[1], "  #")
		command = strings.TrimSpace(command)
		command = strings.ReplaceAll(command, "127.0.0.1:7340", p.client)
		command = strings.ReplaceAll(command, "AQE7…", cursor)
		want := `"topic":"hello","offset":`
		if strings.Contains(command, "event-stream") {
			// Followers come first in the README and see what is published behind them: here they begin at the start,
			// and curl's own time-out ends them.
			p.publish("hello", "hi")
			command = strings.Replace(command, "curl ", "curl -s --max-time 1 ", 1) + "?after=earliest"
			want = "data: hi"
		}
		out, err := exec.Command("sh", "-c", strings.Replace(command, "curl ", "curl -s ", 1)).Output()
		if err != nil && want != "data: hi" || !strings.Contains(string(out), want) {
			t.Errorf("%s: got %s (%v), want %s in it", command, out, err, want)
		}
		if m := regexp.MustCompile(`"cursor":"([^"]+)"`).FindStringSubmatch(string(out)); m != nil && strings.Contains(command, "-d") {
			cursor = m[1]
			p.publish("hello", "next")
		}
		ran++
	}
	if ran < 4 {
		t.Errorf("the README has %d curl lines, want its four", ran)
	}
}
