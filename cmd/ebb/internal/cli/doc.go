// Package cli is the command tree of ebb: what people and scripts type, and what they get back.
//
// Results go to standard output (--output json for programs), progress, logs and errors to standard error. The exit code is
// 0 for done, 1 for a failure at run time, 2 for wrong usage or configuration. Every error says what is wrong and what to
// do. The package holds no engine: what run and demo do is handed in, so that the tree can be tested without them.
package cli
