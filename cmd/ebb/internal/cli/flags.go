package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ebb/cmd/ebb/internal/config"
	"ebb/detectors"
)

// choice is a flag that takes one of a few words.
type choice struct {
	value   string
	allowed []string
	name    string // of the type in the help, where the words would be too many
}

func (c *choice) String() string { return c.value }

// Type names what the flag takes.
func (c *choice) Type() string { return cmp.Or(c.name, strings.Join(c.allowed, "|")) }

// Set takes the word.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return fmt.Errorf("use %s", strings.Join(c.allowed, " or "))
	}
	c.value = s
	return nil
}

// output adds --output, and answers whether json was asked for once flags are parsed.
func output(cmd *cobra.Command) func() bool {
	c := &choice{value: "text", allowed: []string{"text", "json"}}
	cmd.Flags().VarP(c, "output", "o", "form of the result: text for people, json for programs")
	return func() bool { return c.value == "json" }
}

// length is a flag that takes a duration as the configuration does.
type length struct{ value time.Duration }

func (l *length) Type() string { return "duration" }

func (l *length) String() string {
	if l.value == 0 {
		return ""
	}
	return detectors.Duration(l.value).String()
}

// Set takes the duration.
func (l *length) Set(s string) error {
	d, err := detectors.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("use a positive duration")
	}
	l.value = d.Std()
	return err
}

// size is a flag that takes a number of bytes as the configuration does.
type size struct{ value int64 }

func (s *size) String() string { return config.Bytes(s.value).String() }
func (s *size) Type() string   { return "size" }

// Set takes the size.
func (s *size) Set(text string) error {
	v, err := config.ParseBytes(text)
	if err == nil && v < 1 {
		err = errors.New("use a size above 0")
	}
	s.value = int64(v)
	return err
}

// file adds -c.
func file(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("config", "c", "ebb.yaml", "configuration file")
}

// writeJSON writes v as one line.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printable is s without anything that a terminal would act on. What stands in topics was written by others.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '\uFFFD'
		}
		return r
	}, s)
}
