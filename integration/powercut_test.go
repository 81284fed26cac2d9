package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopDisk is an ext4 of its own, whose power can be cut.
type loopDisk struct {
	t          *testing.T
	image, dir string
}

// newLoopDisk makes one, or skips the test where that is not allowed.
func newLoopDisk(t *testing.T, mib int) *loopDisk {
	t.Helper()
	at := t.TempDir()
	if _, err := os.Stat("/dev/shm"); err == nil { // syncs to the real disk take tens of milliseconds
		if at, err = os.MkdirTemp("/dev/shm", "pushd-"); err != nil {
			t.Skipf("/dev/shm: %v", err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(at) })
	}
	d := &loopDisk{t: t, image: filepath.Join(at, "image"), dir: filepath.Join(at, "mount")}
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, int64(mib)<<20), os.Mkdir(d.dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", d.image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("mounting a file as a disk is not allowed here: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", d.dir).Run() })
	return d
}

// cut loses whatever was not synced, as if the power went.
func (d *loopDisk) cut() {
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	const shutdown, withoutFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdown, withoutFlush); err != nil {
		d.t.Skipf("this kernel's ext4 can not be shut down: %v", err)
	}
}

// mend mounts the disk again. Its process has ended.
func (d *loopDisk) mend() {
	for _, c := range [][]string{{"umount", d.dir}, {"mount", "-o", "loop", d.image, d.dir}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			d.t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
}

// TestPowerCutsOfOneNodeAndOfAllLoseNothing publishes all the while. PUSHD_CHAOS=long makes it 30 rounds.
func TestPowerCutsOfOneNodeAndOfAllLoseNothing(t *testing.T) {
	t.Parallel()
	var nodes []*process
	var disks []*loopDisk
	for i := range 3 {
		disks = append(disks, newLoopDisk(t, 256))
		var join []string
		if i > 0 {
			join = []string{"join", nodes[0].gossip}
		}
		p := newNode(t, fmt.Sprint("n", i+1), join...)
		p.dir = filepath.Join(disks[i].dir, "data")
		p.serve()
		nodes = append(nodes, p)
	}
	nodes[0].waitWhole(3)
	w := newPowerWriters(nodes)
	rounds := 2
	if os.Getenv("PUSHD_CHAOS") == "long" {
		rounds = 30
	}
	for round := range rounds {
		<-time.After(500 * time.Millisecond) // events between cuts
		hit := []int{0, 1, 2}
		if round%2 == 0 {
			hit = []int{rand.IntN(3)}
		}
		for _, i := range hit {
			disks[i].cut()
		}
		for _, i := range hit {
			nodes[i].kill()
			disks[i].mend()
			nodes[i].start()
		}
		for _, i := range hit {
			nodes[i].waitReady()
		}
		nodes[0].waitWhole(3)
	}
	acked := w.stop()
	nodes[0].wait("publishing at the end", func() error { return nodes[0].tryPublish("end") })
	nodes[0].waitWhole(3)
	for _, p := range nodes {
		if lost := p.lacks("cut.**", acked); lost > 0 {
			t.Errorf("%s: %d of %d acknowledged events are lost", p.name, lost, len(acked))
		}
	}
	t.Logf("%d acknowledged events over %d rounds", len(acked), rounds)
}

// lacks counts the texts that no event of the pattern has.
func (p *process) lacks(pattern string, texts []string) (lost int) {
	p.t.Helper()
	have := map[string]bool{}
	for _, e := range p.everything(pattern) {
		have[string(e.Data)] = true
	}
	for _, text := range texts {
		if !have[fmt.Sprintf("%q", text)] {
			lost++
		}
	}
	return lost
}

// powerWriters publish at all nodes and remember what was acknowledged.
type powerWriters struct {
	quit chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex // guards acked
	acked []string
}

func newPowerWriters(nodes []*process) *powerWriters {
	w := &powerWriters{quit: make(chan struct{})}
	for i := range 8 {
		w.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-w.quit:
					return
				default:
				}
				data := fmt.Sprint(i, ".", n)
				if nodes[(i+n)%3].postQuietly(fmt.Sprint("cut.", i), data) {
					w.mu.Lock()
					w.acked = append(w.acked, data)
					w.mu.Unlock()
				}
			}
		})
	}
	return w
}

func (w *powerWriters) stop() []string {
	close(w.quit)
	w.wg.Wait()
	return w.acked
}
