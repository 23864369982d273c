package backtest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"ebb/stream"
	"ebb/stream/event"
)

// maxLine is the longest line of JSON lines, in bytes.
const maxLine = 16 << 20

// BadRow is a row that could not be used.
type BadRow struct {
	File    string `json:"file"`
	Row     int    `json:"row"` // line of the file, from 1; in a topic the offset, and File is TOPIC/PARTITION
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (b *BadRow) Error() string {
	return fmt.Sprintf("%s:%d: %s: %s", b.File, b.Row, b.Reason, b.Message)
}

// Reasons of rows that never became a record. The others are those of package event.
const (
	reasonRow   = "unreadable_row"
	reasonTopic = "unknown_topic"
	reasonExtra = "invalid_extra"
)

// rows reads one file and gives each row to take, as a JSON object of the feed it belongs to. A row that cannot be given goes to bad; an
// error of take or bad ends the reading.
type rows struct {
	file  string
	feeds *feedNames
	take  func(line int, f event.Feed, value []byte) error
	bad   func(BadRow) error
	// thousands sees the amounts of payments in tables.
	thousands *thousands
	above     int // empty lines above the first row
}

// read reads CSV or JSON lines, whichever it is, and either of them compressed by gzip.
func (r *rows) read(in io.Reader) error {
	b := bufio.NewReaderSize(in, 1<<16)
	if head, _ := b.Peek(2); len(head) == 2 && head[0] == 0x1f && head[1] == 0x8b {
		z, err := gzip.NewReader(b)
		if err != nil {
			return fmt.Errorf("%s: %w", r.file, err)
		}
		b = bufio.NewReaderSize(z, 1<<16)
	}
	if err := r.encoding(b); err != nil {
		return err
	}
	if head, _ := b.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) { // a byte order mark, as spreadsheets write it
		if _, err := b.Discard(3); err != nil {
			return fmt.Errorf("%s: %w", r.file, err)
		}
	}
	for {
		head, err := b.Peek(1)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", r.file, err)
		case head[0] == '{':
			return r.lines(b)
		case head[0] != '\n' && head[0] != '\r':
			return r.table(b)
		case head[0] == '\n':
			r.above++
		}
		if _, err := b.Discard(1); err != nil {
			return fmt.Errorf("%s: %w", r.file, err)
		}
	}
}

// encoding refuses a file that cannot be in UTF-8, by its head: spreadsheets write the signs of their country, or UTF-16, unless they are asked for
// something else. A few broken bytes further on are bad rows.
func (r *rows) encoding(in *bufio.Reader) error {
	head, _ := in.Peek(headBytes) // what is wrong with the reader, reading says
	if len(head) == headBytes {
		head = wholeRunes(head)
	}
	switch {
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")), bytes.IndexByte(head, 0) >= 0:
		return fmt.Errorf("%s: the file is not a text in UTF-8, but probably in UTF-16: export it as \"CSV UTF-8\", or convert it with iconv -f UTF-16 -t UTF-8", r.file)
	case !utf8.Valid(head):
		return fmt.Errorf("%s: the file is not a text in UTF-8: export it as \"CSV UTF-8\", or convert it, of Western Europe with iconv -f WINDOWS-1252 -t UTF-8", r.file)
	}
	return nil
}

// headBytes is how much of a file is looked at for what it is written in.
const headBytes = 1 << 14

// wholeRunes is a text without a sign that is cut off at its end.
func wholeRunes(b []byte) []byte {
	for i := len(b) - 1; i >= max(0, len(b)-utf8.UTFMax); i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return b[:i]
			}
			break
		}
	}
	return b
}

// lines reads JSON lines: objects with a member "topic" (or "feed") beside those of the record.
func (r *rows) lines(in *bufio.Reader) error {
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 0, 1<<16), maxLine)
	n := r.above
	for s.Scan() {
		n++
		line := bytes.TrimSpace(s.Bytes())
		if len(line) == 0 {
			continue
		}
		var name struct{ Topic, Feed string }
		if err := json.Unmarshal(line, &name); err != nil {
			if err := r.bad(BadRow{r.file, n, reasonRow, "not a JSON object: " + err.Error()}); err != nil {
				return err
			}
			continue
		}
		if name.Topic == "" {
			name.Topic = name.Feed
		}
		if err := r.give(n, name.Topic, bytes.Clone(line)); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("%s:%d: %w", r.file, n+1, err)
	}
	return nil
}

func (r *rows) give(line int, topic string, value []byte) error {
	f, ok := r.feeds.of(topic)
	if !ok {
		return r.unknownTopic(line, topic)
	}
	return r.take(line, f, value)
}

func (r *rows) unknownTopic(line int, topic string) error {
	return r.bad(BadRow{r.file, line, reasonTopic, fmt.Sprintf("topic %q is none of %s", topic, r.feeds)})
}

// separatorOf is what stands between the columns of a table: the one of comma, semicolon and tab that its first line has most of. Spreadsheets
// write semicolons where the comma is the decimal sign.
func separatorOf(in *bufio.Reader) rune {
	head, _ := in.Peek(1 << 12) // what is wrong with the reader, reading says
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	best := ','
	for _, c := range ";\t" {
		if bytes.Count(line, []byte(string(c))) > bytes.Count(line, []byte(string(best))) {
			best = c
		}
	}
	return best
}

// table reads CSV with a line of names at the top, in any order. Columns beyond those of the contract become members of the record.
func (r *rows) table(in *bufio.Reader) error {
	c := csv.NewReader(in)
	c.ReuseRecord, c.FieldsPerRecord, c.Comma = true, -1, separatorOf(in)
	head, err := c.Read()
	if err != nil {
		return fmt.Errorf("%s: %w", r.file, err)
	}
	names := slices.Clone(head)
	if missing := r.feeds.missing(names); missing != "" {
		return fmt.Errorf("%s: no column %s, but %s; give its first line the names customer_id,time,topic,type,amount,extra, "+
			"or name a configuration (-c) whose mapping reads these columns; docs/backtest.md has an example", r.file, missing, strings.Join(names, ", "))
	}
	topic, amounts := slices.Index(names, topicColumn), r.thousands.in(names)
	for {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var broken *csv.ParseError
		switch {
		case errors.As(err, &broken):
			err = r.unreadable(broken)
		case err != nil:
			return fmt.Errorf("%s: %w", r.file, err)
		default:
			err = r.tableRow(c, names, topic, amounts, row)
		}
		if err != nil {
			return err
		}
	}
}

// unreadable tells of a row that is none, line by line: a quote that is not ended takes in the rows behind it, and they are lost with it.
func (r *rows) unreadable(broken *csv.ParseError) error {
	for line := broken.StartLine; line <= broken.Line; line++ {
		if err := r.bad(BadRow{r.file, r.above + line, reasonRow, broken.Err.Error()}); err != nil {
			return err
		}
	}
	return nil
}

// tableRow gives a row of a table. topic is the index of the column that names its topic, -1 for none, and amounts are those in which payments have their amounts.
func (r *rows) tableRow(c *csv.Reader, names []string, topic int, amounts []int, row []string) error {
	line, _ := c.FieldPos(0)
	line += r.above
	if len(row) != len(names) {
		return r.bad(BadRow{r.file, line, reasonRow, fmt.Sprintf("%d fields where the first line names %d", len(row), len(names))})
	}
	value, why := object(names, row)
	if why != "" {
		return r.bad(BadRow{r.file, line, reasonExtra, why})
	}
	f := r.feeds.only
	if topic >= 0 {
		var ok bool
		if f, ok = r.feeds.of(row[topic]); !ok {
			return r.unknownTopic(line, row[topic])
		}
	}
	if f == event.Payments {
		for _, i := range amounts {
			r.thousands.note(row[i])
		}
	}
	return r.take(line, f, value)
}

// object is a row of CSV as JSON. Empty fields are absent. It says what is wrong, if anything is.
func object(names, row []string) (value []byte, why string) {
	b := make([]byte, 0, 160)
	b = append(b, '{')
	for i, name := range names {
		v := row[i]
		if v == "" {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(appendText(b, name), ':')
		switch {
		case !utf8.ValidString(v):
			return nil, "the field " + name + " is not valid UTF-8: export the file as \"CSV UTF-8\", or convert it with iconv"
		case name != "extra":
			b = appendText(b, v)
		case !json.Valid([]byte(v)) || !strings.HasPrefix(strings.TrimLeft(v, " \t"), "{"):
			return nil, "extra is neither empty nor a JSON object"
		default:
			b = append(b, v...)
		}
	}
	return append(b, '}'), ""
}

// appendText appends a JSON string. Most texts need no escape.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			text, err := json.Marshal(s)
			if err != nil { // a string always has a form
				panic(err)
			}
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// feedNames says which feed a topic's name means.
type feedNames struct {
	topics map[string]event.Feed
	order  []string
	// columns are those in which the mapping of some feed looks for what no row can do without, by the contract's name.
	columns map[string][]string
	// only is the feed of a table without topics, if lone: then it is the only one that is configured.
	only event.Feed
	lone bool
}

const topicColumn = "topic"

// missing is the first column that a table has to have and does not, empty if it has all.
func (n *feedNames) missing(names []string) string {
	for _, field := range []string{"customer_id", "time"} {
		wanted := n.columns[field]
		if len(wanted) > 0 && !slices.ContainsFunc(wanted, func(c string) bool { return slices.Contains(names, c) }) {
			return strings.Join(wanted, " or ")
		}
	}
	if !n.lone && !slices.Contains(names, topicColumn) {
		return topicColumn
	}
	return ""
}

// read notes where the mapping of a feed looks for a field: a path begins with a column's name.
func (n *feedNames) read(m *event.Mapping, field string) {
	paths := []string{field}
	if m != nil && m.Fields != nil {
		paths = m.Fields[field].Paths
	}
	if m != nil && m.CloudEvents {
		paths = nil // it may lie in the envelope
	}
	for _, path := range paths {
		if c := firstName(path); !slices.Contains(n.columns[field], c) {
			n.columns[field] = append(n.columns[field], c)
		}
	}
}

// firstName is the first name of a path, in which a dot is written as "\.".
func firstName(path string) string {
	var name []byte
	for i := 0; i < len(path) && path[i] != '.'; i++ {
		if path[i] == '\\' && i+1 < len(path) {
			i++
		}
		name = append(name, path[i])
	}
	return string(name)
}

// newFeedNames knows the topics that are configured, and the feeds' own names, singular and plural; that of the acts of people too where no feed of them is configured,
// because a history may hold some.
func newFeedNames(feeds []stream.FeedConfig) *feedNames {
	n := &feedNames{topics: map[string]event.Feed{}, columns: map[string][]string{}}
	if len(feeds) == 1 {
		n.only, n.lone = feeds[0].Feed, true
	}
	for _, f := range feeds {
		n.read(f.Mapping, "customer_id")
		n.read(f.Mapping, "time")
		n.topics[f.Topic] = f.Feed
		n.order = append(n.order, f.Topic)
	}
	for _, f := range feeds {
		plural := f.Feed.String()
		for _, name := range []string{plural, strings.TrimSuffix(plural, "s")} {
			if _, known := n.topics[name]; !known {
				n.topics[name] = f.Feed
				n.order = append(n.order, name)
			}
		}
	}
	if name := event.Control.String(); !slices.Contains(n.order, name) {
		n.topics[name] = event.Control
		n.order = append(n.order, name)
	}
	return n
}

func (n *feedNames) of(topic string) (event.Feed, bool) {
	f, ok := n.topics[topic]
	return f, ok
}

func (n *feedNames) String() string { return strings.Join(n.order, ", ") }
