package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ebb/cmd/ebb/internal/config"
	"ebb/cmd/ebb/internal/config/fielddoc"
)

const root = "../../../.."

const full = essentials + `
security: {sasl: {mechanism: plain, username: ebb, password: hunter2}}
money: {rates: {USD: "0.92", GBP: "1.170"}}
webhooks:
  - {name: crm, url: "https://crm.example.com/a?b=c", secret: hunter2}
  - {name: pager, url: "http://127.0.0.1:1/", secret: hunter2, timeout: 1500ms}
`

func text2(t testing.TB, c *config.Config) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPrintShowsEveryDefault(t *testing.T) {
	golden(t, "testdata/print.yaml", text2(t, load(t, full, nil)))
}

func TestWhatIsPrintedIsReadAsTheSame(t *testing.T) {
	c := load(t, full+"client_id: \"a${X:-:} # b\"\nstate: {dir: \"$${HOME}/true\"}\n", nil)
	printed := text2(t, c)
	if again := text2(t, load(t, printed, nil)); again != printed {
		t.Errorf("printed:\n%s\nread and printed again:\n%s", printed, again)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	c := load(t, full, nil)
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "secret", c.Security.SASL.Password)
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"print": text2(t, c), "%v": fmt.Sprintf("%v", c.Security), "%+v": fmt.Sprintf("%+v", c.Security), "%#v": fmt.Sprintf("%#v", c.Security),
		"log": logged.String(), "json": string(asJSON),
	} {
		if strings.Contains(s, "hunter2") {
			t.Errorf("%s shows a secret: %s", name, s)
		}
	}
}

func TestSchema(t *testing.T) {
	var b bytes.Buffer
	if err := config.Schema(&b); err != nil {
		t.Fatal(err)
	}
	var parsed map[string]any
	if err := json.Unmarshal(b.Bytes(), &parsed); err != nil {
		t.Fatal(err)
	}
	defaultsAreAllowed(t, parsed, "")
	if parsed["properties"].(map[string]any)["group"].(map[string]any)["description"] == "" {
		t.Error("keys are not described")
	}
	withoutDescriptions(parsed) // They follow the comments in the sources.
	bare, err := json.MarshalIndent(parsed, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/schema.json", string(bare)+"\n")
}

func withoutDescriptions(s map[string]any) {
	delete(s, "description")
	for _, v := range s {
		if m, ok := v.(map[string]any); ok {
			withoutDescriptions(m)
		}
	}
}

// defaultsAreAllowed checks every default against its own schema.
func defaultsAreAllowed(t *testing.T, s map[string]any, path string) {
	t.Helper()
	if def, ok := s["default"]; ok && !allowed(s, def) {
		t.Errorf("%s: the default %v does not fit the schema", path, def)
	}
	children, _ := s["properties"].(map[string]any)
	for key, c := range children {
		defaultsAreAllowed(t, c.(map[string]any), path+"."+key)
	}
	if items, ok := s["items"].(map[string]any); ok {
		defaultsAreAllowed(t, items, path+"[]")
	}
}

// allowed is as much of JSON Schema as the schema uses for single values.
func allowed(s map[string]any, v any) bool {
	if options, ok := s["anyOf"].([]any); ok {
		return slices.ContainsFunc(options, func(o any) bool { return allowed(o.(map[string]any), v) })
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, v) {
		return false
	}
	types, ok := s["type"].([]any)
	if one, single := s["type"].(string); single {
		types, ok = []any{one}, true
	}
	if ok && !slices.ContainsFunc(types, func(name any) bool { return isOf(name.(string), v) }) {
		return false
	}
	pattern, ok := s["pattern"].(string)
	text, isText := v.(string)
	return !ok || !isText || regexp.MustCompile(pattern).MatchString(text)
}

func isOf(name string, v any) bool {
	switch v := v.(type) {
	case string:
		return name == "string"
	case bool:
		return name == "boolean"
	case float64:
		return name == "number" || name == "integer" && v == math.Trunc(v)
	}
	return false
}

func TestEveryKeyIsDocumentedAndTheReferenceIsCurrent(t *testing.T) {
	docs, err := fielddoc.Extract(root, fielddoc.Packages())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range config.Undocumented(docs) {
		t.Errorf("%s has no comment", path)
	}
	b, err := json.MarshalIndent(docs, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	current(t, "fielddocs.json", string(b)+"\n")
	current(t, filepath.Join(root, "docs", "configuration.md"), config.Reference(docs))
}

func current(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date; run make generate", name)
	}
}
