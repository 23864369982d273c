// Package arrows holds the tests that keep the shape of the repository: which
// package may import which, where third-party libraries may appear, that the
// wall clock enters in main only, that every package says what it is for, and
// that tracked files name no machine, registry or file outside of the
// repository. It has no code of its own.
package arrows
