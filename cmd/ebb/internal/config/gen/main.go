// Command gen writes what follows from the comments of configurable fields: fielddocs.json, which the program carries, and
// docs/configuration.md. It is run by go generate in the folder of package config.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"ebb/cmd/ebb/internal/config"
	"ebb/cmd/ebb/internal/config/fielddoc"
)

func main() {
	if err := generate(filepath.Join("..", "..", "..", "..")); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func generate(root string) error {
	docs, err := fielddoc.Extract(root, fielddoc.Packages())
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(docs, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile("fielddocs.json", append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "docs", "configuration.md"), []byte(config.Reference(docs)), 0o644)
}
