//go:build race

package edge

// raceDetector has pools forget some of what they are given, so that
// allocations can't be counted.
const raceDetector = true
