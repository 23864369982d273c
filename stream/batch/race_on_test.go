//go:build race

package batch

// raceDetector: sync.Pool then forgets at random, and allocations say nothing.
const raceDetector = true
