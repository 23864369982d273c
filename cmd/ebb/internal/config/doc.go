// Package config reads ebb's one configuration file.
//
// The file is strict YAML: a key that ebb does not know is a fault, never ignored, because a mistyped threshold that falls
// back to its default is found out months later. Load reports every fault of a file at once, each with line, column and what
// to do about it. Scalars may refer to the environment (${NAME}, ${NAME:-default}), secrets may stand in files.
//
// The structs here are the reference: the comment of a field is its documentation, in the schema (ebb config schema) and in
// docs/configuration.md, and Default is what config print shows for a key that the file leaves out. The package turns
// text into values and checks what can be checked without a broker. It opens no connection and builds no engine part;
// that is the composition root's work.
package config

//go:generate go run ./gen
