package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebb/cmd/ebb/internal/config"
)

func TestTheExamplesAreGood(t *testing.T) {
	env := map[string]string{
		"KAFKA_BROKERS": "127.0.0.1:9092", "BENCH_PREFIX": "bench_", "BENCH_GROUP": "ebb-bench", "STATE_DIR": "/tmp/ebb",
	}
	whole, _ := filepath.Glob(filepath.Join(root, "docs", "examples", "*.yaml"))
	parts, _ := filepath.Glob(filepath.Join(root, "docs", "examples", "mappings", "*.yaml"))
	if len(whole) == 0 || len(parts) == 0 {
		t.Fatal("no examples")
	}
	for _, name := range append(whole, parts...) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text := string(b)
			if !strings.Contains(text, "\nbrokers:") {
				text = "group: ebb\nbrokers: [127.0.0.1:9092]\n" + text // A mapping is a part of a configuration.
			}
			c, err := config.Load(name, source(map[string]string{name: text}, env))
			if err != nil {
				t.Fatal(err)
			}
			printed := text2(t, c)
			if again := text2(t, load(t, printed, nil)); again != printed {
				t.Errorf("is printed as\n%s\nwhich is read as\n%s", printed, again)
			}
		})
	}
}
