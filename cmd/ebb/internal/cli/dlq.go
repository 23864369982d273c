package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"ebb/cmd/ebb/internal/config"
	"ebb/stream/batch"
	"ebb/stream/tail"
)

func (c *CLI) dlq() *cobra.Command {
	return group(
		"dlq", "See the records that could not be used",
		"  ebb dlq list -c ebb.yaml\n  ebb dlq list --output json --show-payload",
		c.dlqList(),
	)
}

func (c *CLI) dlqList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the dead letters with reason and origin",
		Long: `list prints every record of the dead-letter topic: when and where it came from, and
why it could not be used. Its key and content are not shown unless --show-payload is
given, since they are your customers' data.`,
		Example: `  ebb dlq list
  ebb dlq list --output json | jq -r .reason | sort | uniq -c
  ebb dlq list --output json --show-payload > dead-letters.ndjson`,
		Args: cobra.NoArgs,
	}
	path, asJSON := file(cmd), output(cmd)
	show := cmd.Flags().Bool("show-payload", false, "show key, value and headers of the records")
	cmd.RunE = work(func(cmd *cobra.Command) error {
		topic := func(cfg *config.Config) string { return cfg.Topics.DeadLetters }
		n := 0
		err := c.tail(cmd.Context(), *path, topic, tail.Options{From: tail.Start, UntilEnd: true}, func(r *tail.Record) error {
			n++
			l := letterOf(r, *show)
			if asJSON() {
				return writeJSON(c.deps.Stdout, l)
			}
			_, err := fmt.Fprintln(c.deps.Stdout, l)
			return err
		})
		if n == 0 && err == nil && cmd.Context().Err() == nil {
			fmt.Fprintln(c.deps.Stderr, "there are no dead letters")
		}
		return err
	})
	return cmd
}

// letter is one dead letter as it is shown.
type letter struct {
	Reason     string            `json:"reason"`
	Message    string            `json:"message"`
	Source     source            `json:"source"`
	Partition  int32             `json:"partition"` // of the dead-letter topic
	Offset     int64             `json:"offset"`    // in the dead-letter topic
	KeyBytes   int               `json:"key_bytes"`
	ValueBytes *int              `json:"value_bytes"` // null for a null value
	Key        *payload          `json:"key,omitempty"`
	Value      *payload          `json:"value,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
}

// source is where the record came from.
type source struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Time      string `json:"time,omitempty"` // timestamp of the record, RFC 3339
}

// payload is bytes as text where they are text, else as base64.
type payload []byte

// MarshalJSON writes a string, {"base64": "…"} for bytes that are not UTF-8, or null.
func (p payload) MarshalJSON() ([]byte, error) {
	switch {
	case p == nil:
		return []byte("null"), nil
	case utf8.Valid(p):
		var b bytes.Buffer
		err := writeJSON(&b, string(p)) // not json.Marshal, which writes < as \u003c
		return b.Bytes(), err
	}
	return json.Marshal(struct {
		Base64 []byte `json:"base64"`
	}{p})
}

func (p payload) String() string {
	switch {
	case p == nil:
		return "null"
	case utf8.Valid(p):
		return printable(string(p))
	}
	return fmt.Sprintf("%q", []byte(p))
}

const prefix = "ebb_"

func letterOf(r *tail.Record, show bool) letter {
	l := letter{Partition: r.Partition, Offset: r.Offset, KeyBytes: len(r.Key)}
	if r.Value != nil {
		n := len(r.Value)
		l.ValueBytes = &n
	}
	for _, h := range r.Headers {
		l.header(h, show)
	}
	if show {
		key, value := payload(r.Key), payload(r.Value)
		l.Key, l.Value = &key, &value
	}
	return l
}

func (l *letter) header(h batch.Header, show bool) {
	name, value := h.Key, string(h.Value)
	switch name {
	case prefix + "error_reason":
		l.Reason = value
	case prefix + "error_message":
		l.Message = value
	case prefix + "source_topic":
		l.Source.Topic = value
	case prefix + "source_partition":
		n, _ := strconv.ParseInt(value, 10, 32)
		l.Source.Partition = int32(n)
	case prefix + "source_offset":
		l.Source.Offset, _ = strconv.ParseInt(value, 10, 64)
	case prefix + "source_timestamp":
		if ms, err := strconv.ParseInt(value, 10, 64); err == nil {
			l.Source.Time = time.UnixMilli(ms).UTC().Format(time.RFC3339Nano)
		}
	default:
		if show {
			if l.Headers == nil {
				l.Headers = map[string]string{}
			}
			l.Headers[name] = strings.ToValidUTF8(value, "\uFFFD")
		}
	}
}

// String is one line: when, where from, why.
func (l letter) String() string {
	s := fmt.Sprintf("%s  %s/%d/%d  %s  %s", l.Source.Time, l.Source.Topic, l.Source.Partition, l.Source.Offset, l.Reason, l.Message)
	s = printable(s)
	if l.Value != nil {
		s += "  " + l.Key.String() + "  " + l.Value.String()
	}
	return s
}
