package backtest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"ebb/cmd/ebb/internal/app"
	"ebb/cmd/ebb/internal/backtest"
	"ebb/cmd/ebb/internal/cli"
	"ebb/cmd/ebb/internal/config"
	"ebb/detectors"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
)

var update = flag.Bool("update", false, "write the golden report anew")

const history = "testdata/history.csv"

// plainRules is the configuration of the golden report: the built-in mapping with rules that do not change with the defaults.
func plainRules(t *testing.T) string {
	t.Helper()
	return write(t, "plain.yaml", plainText())
}

func plainText() string {
	return string(backtest.DefaultConfig()) + "detectors: {silence: {method: plain}, spend_drop: {method: plain}}\n"
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func options(t *testing.T, files ...string) cli.BacktestOptions {
	t.Helper()
	return with(plainRules(t), files...)
}

func with(config string, files ...string) cli.BacktestOptions {
	return cli.BacktestOptions{Events: files, Config: config, Horizon: 45, JSON: true, MaxBad: 5, MaxMemory: 1 << 30}
}

// run returns what the command writes to standard output and standard error.
func run(t *testing.T, o cli.BacktestOptions) (string, string, error) {
	t.Helper()
	var out, errs bytes.Buffer
	err := app.Backtest(context.Background(), o, cli.Streams{Stdout: &out, Stderr: &errs})
	return out.String(), errs.String(), err
}

func mustRun(t *testing.T, o cli.BacktestOptions) string {
	t.Helper()
	out, errs, err := run(t, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	return out
}

// reported is the report that a run prints for programs.
func reported(t *testing.T, o cli.BacktestOptions) *backtest.Report {
	t.Helper()
	var r backtest.Report
	if err := json.Unmarshal([]byte(mustRun(t, o)), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// The report of a small history, member by member. What changes it changes what users are told. The configuration's hash and what the model says are
// left out: the one changes with every key that is added, the other has tests of its own.
func TestGoldenReport(t *testing.T) {
	var r backtest.Report
	if err := json.Unmarshal([]byte(wholeReport(t)), &r); err != nil {
		t.Fatal(err)
	}
	r.Config, r.Model = "", nil
	for i := range r.Methods {
		predictions(&r.Methods[i])
	}
	got, err := json.MarshalIndent(&r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	const golden = "testdata/report.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the report differs from %s; look at it, and if it is right run this test with -update\n%s", golden, got)
	}
}

// predictions leaves only the detectors whose alerts are judged: what others are there, and how many alerts they raise, is a matter of theirs.
func predictions(m *backtest.MethodReport) {
	judged := []string{detectors.SilenceName, detectors.SpendDropName}
	m.Detectors = slices.DeleteFunc(m.Detectors, func(d backtest.DetectorReport) bool { return !slices.Contains(judged, d.Detector) })
	for i := range m.Weeks {
		maps.DeleteFunc(m.Weeks[i].Alerts, func(name string, _ int) bool { return !slices.Contains(judged, name) })
	}
}

// Probabilities are told, judged and put into bins; a higher threshold raises no more alerts and finds no more departures.
func TestModelReport(t *testing.T) {
	var r backtest.Report
	if err := json.Unmarshal([]byte(wholeReport(t)), &r); err != nil {
		t.Fatal(err)
	}
	m := r.Model
	if m == nil {
		t.Fatal("no model")
	}
	if m.MedianGap == 0 || (m.FittingDays != 0) != (3*m.MedianGap > r.HorizonDays) {
		t.Errorf("usual gap %d days, horizon %d, fitting %d", m.MedianGap, r.HorizonDays, m.FittingDays)
	}
	looks := 0
	for _, b := range m.Calibration {
		looks += b.Looks
		if b.Told < 0 || b.Told > 1 || b.Stopped < 0 || b.Stopped > 1 {
			t.Errorf("bin %+v", b)
		}
	}
	if looks != m.Looks || looks == 0 || m.BaseRate <= 0 || m.BaseRate >= 1 || m.AP == nil || *m.AP <= m.BaseRate {
		t.Errorf("%d looks in bins of %d, base rate %v, average precision %v", looks, m.Looks, m.BaseRate, m.AP)
	}
	for i := 1; i < len(m.Thresholds); i++ {
		a, b := m.Thresholds[i-1], m.Thresholds[i]
		if b.Alerts > a.Alerts || *b.Recall > *a.Recall {
			t.Errorf("%+v after %+v", b, a)
		}
	}
}

// Every alert is a row, and every departure that was missed; counted, they are the report.
func TestAlertsAreCSV(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alerts.csv")
	o := with(plainRules(t), history)
	o.Alerts = file
	r := reported(t, o)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(rows[0], ","), "customer_id,detector,severity,fired,resolved,probability,at_risk,currency,verdict,lead_days,since,learning,subject,told,within,changes,reason"; got != want {
		t.Fatalf("columns %s", got)
	}
	count, reasons := map[string]int{}, map[string]int{}
	for _, row := range rows[1:] {
		name := row[1] + "/" + row[8]
		if row[11] == "true" {
			name += "/learning"
		}
		count[name]++
		if row[8] == "missed" && row[11] == "false" {
			reasons[row[16]]++
		}
		if row[1] == detectors.SilenceName && row[9] != "" && row[11] == "false" {
			count["leads"]++
		}
		if row[0] == "" || row[10] == "" || (row[3] == "") != (row[8] == "missed") {
			t.Errorf("row %v", row)
		}
	}
	s := r.Methods[0].Silence()
	want := map[string]int{
		"silence/right": *s.Right, "silence/wrong": *s.Wrong, "silence/right/learning": s.Learning.Right, "silence/wrong/learning": s.Learning.Wrong,
		"/missed": *s.Lapses - *s.Found, "/missed/learning": s.Learning.Lapses - s.Learning.Found, "leads": *s.Found,
	}
	for name, n := range want {
		if count[name] != n {
			t.Errorf("%s: %d rows, the report says %d", name, count[name], n)
		}
	}
	if !maps.Equal(reasons, s.Missed) || reasons["not_overdue"] == 0 {
		t.Errorf("the table gives the reasons %v, the report %v", reasons, s.Missed)
	}
	if len(want) == 0 || *s.Right == 0 || *s.Lapses == *s.Found {
		t.Error("the history shows too little")
	}
}

// A score uses nothing later than the end of its day: the rows of a history that ends there are the same.
func TestScoresDoNotSeeTheFuture(t *testing.T) {
	at := time.Date(2024, time.June, 30, 0, 0, 0, 0, time.UTC)
	score := func(file string, at ...time.Time) string {
		o := options(t, file)
		o.ScoreAt, o.Scores = at, filepath.Join(t.TempDir(), "scores.csv")
		mustRun(t, o)
		b, err := os.ReadFile(o.Scores)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	head, rows := table(t, history)
	var past [][]string
	column := slices.Index(head, "time")
	for _, row := range rows {
		if row[column] < "2024-07-01" {
			past = append(past, row)
		}
	}
	want := score(history, at)
	same(t, want, score(write(t, "past.csv", asTable(t, head, past, []int{0, 1, 2, 3, 4, 5})), at))
	if n := strings.Count(want, "\n"); n != 31 || !strings.HasPrefix(want, "customer_id,at,p_stop,expected_value,value_at_risk\nc-00,2024-06-30,0.") {
		t.Errorf("%d lines\n%s", n, want)
	}
	if testing.Short() {
		return
	}
	if two := score(history, at.AddDate(0, 0, -30), at); !strings.HasSuffix(two, strings.SplitAfterN(want, "\n", 2)[1]) {
		t.Errorf("another date changes the rows of one:\n%s", two)
	}
}

// The configuration that holds without -c knows every field of the contract.
func TestDefaultConfigurationReadsTheWholeContract(t *testing.T) {
	cfg, err := config.Load("default", config.Source{ReadFile: func(string) ([]byte, error) { return backtest.DefaultConfig(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range cfg.Feeds.Read() {
		for _, name := range event.FieldNames(f.Role) {
			if _, ok := f.Mapping.Fields[name]; !ok && (f.Role != event.Customers || name != "type") {
				t.Errorf("feed %s: field %s is not read", f.Role, name)
			}
		}
	}
}

// The page needs nothing beside itself.
func TestPageStandsAlone(t *testing.T) {
	var r backtest.Report
	if err := json.Unmarshal([]byte(wholeReport(t)), &r); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, not := range []string{"<script", "http:", "https:", "src=", "href=", "NaN", "%!", "ZgotmplZ", "Inf"} {
		if strings.Contains(page, not) {
			t.Errorf("the page holds %q", not)
		}
	}
	for _, want := range []string{"<svg", "Do the probabilities hold?", "What each threshold would have cost", "Alerts about many customers", "No cohort of customers could be watched", "thirds of the active customers", "There are 18 of 18 customers", "2 of them were stated"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
}

// whole is the report of the history as it lies there, made once.
var whole = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ebb-backtest-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	config := filepath.Join(dir, "plain.yaml")
	if err := os.WriteFile(config, []byte(plainText()), 0o600); err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = app.Backtest(context.Background(), with(config, history), cli.Streams{Stdout: &out, Stderr: io.Discard})
	return out.String(), err
})

func wholeReport(t *testing.T) string {
	t.Helper()
	report, err := whole()
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// The same events give the same bytes: in any order of rows and columns, on any number of cores, from files or from standard input, compressed or not, as CSV
// or as JSON lines.
func TestSameHistorySameBytes(t *testing.T) {
	want := wholeReport(t)
	head, rows := table(t, history)
	t.Run("four cores, shuffled, in two files", func(t *testing.T) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
		r := rand.New(rand.NewPCG(1, 2))
		r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		half := len(rows) / 2
		a := write(t, "a.csv", asTable(t, head, rows[:half], r.Perm(len(head))))
		b := write(t, "b.csv", asTable(t, head, rows[half:], r.Perm(len(head))))
		same(t, want, mustRun(t, options(t, a, b)))
	})
	if testing.Short() {
		return
	}
	t.Run("one core, JSON lines, compressed, on standard input", func(t *testing.T) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		for _, row := range rows {
			record := map[string]any{}
			for i, name := range head {
				switch {
				case row[i] == "":
				case name == "extra":
					record[name] = json.RawMessage(row[i])
				default:
					record[name] = row[i]
				}
			}
			b, err := json.Marshal(record)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(z, "%s\n\n", b)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		o := options(t, "-")
		o.Stdin = &packed
		same(t, want, mustRun(t, o))
	})
}

// A history in Kafka gives the same report as in a file, whatever partitions it lies in; nothing before --from counts, nor from --until on.
func TestHistoryFromTopics(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	head, rows := table(t, history)
	byTopic := map[string][]kafkatest.Record{}
	var inTime [][]string
	for _, row := range rows {
		record := map[string]any{}
		for i, name := range head {
			switch {
			case row[i] == "" || name == "topic":
			case name == "extra":
				record[name] = json.RawMessage(row[i])
			default:
				record[name] = row[i]
			}
		}
		value, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		topic := row[slices.Index(head, "topic")] + "s"
		customer := row[slices.Index(head, "customer_id")]
		byTopic[topic] = append(byTopic[topic], kafkatest.Record{Key: []byte(customer), Value: value, Partition: int32(len(byTopic[topic]) % 2)})
		if at := row[slices.Index(head, "time")]; at >= "2024-02-01" && at < "2024-06-01" {
			inTime = append(inTime, row)
		}
	}
	text := plainText()
	for _, topic := range []string{"usage", "payments", "complaints", "customers"} {
		b.CreateTopic(t, b.Name(topic), 2, nil)
		if records := byTopic[topic]; len(records) > 0 {
			b.Produce(t, b.Name(topic), records...)
		}
		text = strings.ReplaceAll(text, "topic: "+topic+"\n", "topic: "+b.Name(topic)+"\n")
	}
	o := with(write(t, "kafka.yaml", text))
	o.Kafka, o.Brokers, o.Dial = true, b.Addrs, b.Dial
	o.From, o.Until = time.Date(2024, time.February, 1, 0, 0, 0, 0, time.UTC), time.Date(2024, time.June, 1, 0, 0, 0, 0, time.UTC)
	got, want := reported(t, o), reported(t, options(t, write(t, "part.csv", asTable(t, head, inTime, []int{0, 1, 2, 3, 4, 5}))))
	if n := len(rows) - len(inTime); got.History.Outside != n {
		t.Errorf("%d events are outside, want %d", got.History.Outside, n)
	}
	got.Config, got.History.Outside, want.Config = "", 0, ""
	if !reflect.DeepEqual(got, want) {
		t.Errorf("another report:\n%+v\nwant\n%+v", got, want)
	}
}

func same(t *testing.T, want, got string) {
	t.Helper()
	if got != want {
		t.Errorf("another report:\n%s\nwant\n%s", got, want)
	}
}

func table(t *testing.T, path string) (head []string, rows [][]string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return all[0], all[1:]
}

func asTable(t *testing.T, head []string, rows [][]string, columns []int) string {
	t.Helper()
	var b strings.Builder
	w := csv.NewWriter(&b)
	for _, row := range append([][]string{head}, rows...) {
		out := make([]string, len(columns))
		for i, c := range columns {
			out[i] = row[c]
		}
		if err := w.Write(out); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()
	return b.String()
}

const broken = `customer_id,time,topic,type,amount,extra
a,2024-01-01T00:00:00Z,payment,purchase,10,
a,2024-01-02T00:00:00Z,payment,purchase,ten,
a,2024-01-03T00:00:00Z,parcel,purchase,10,
a,2024-01-04T00:00:00Z,payment,purchase,10,"{""n"":"
a,2024-01-05T00:00:00Z,payment
a,yesterday,payment,purchase,10,
,2024-01-06T00:00:00Z,payment,purchase,10,
a,2024-01-07T00:00:00Z,payment,"pur"chase,10,
a,2024-01-08T00:00:00Z,payment,purchase,10,
`

// A row that cannot be used is named with its line and the reason, counted, and left out.
func TestBrokenRowsAreNamedAndCounted(t *testing.T) {
	o := options(t, write(t, "broken.csv", broken))
	o.MaxBad = 100
	out, errs, err := run(t, o)
	if err != nil {
		t.Fatal(err)
	}
	var r backtest.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.History.Events != 2 || r.History.Bad != 7 {
		t.Errorf("%d events, %d bad rows; want 2 and 7\n%s", r.History.Events, r.History.Bad, errs)
	}
	for _, want := range []string{
		":3: amount_", ":4: unknown_topic: topic \"parcel\"", ":5: invalid_extra", ":6: unreadable_row: 3 fields", ":7: time_", ":8: customer_missing", ":9: unreadable_row",
	} {
		if !strings.Contains(errs, "broken.csv"+want) {
			t.Errorf("%q is not named in\n%s", want, errs)
		}
	}
}

// A table may have names and a separator of its own, and no topic if a mapping of the only feed says where things lie. Without one, the columns that it has are told.
func TestATableWithColumnsOfItsOwn(t *testing.T) {
	config := write(t, "sales.yaml", `
group: backtest
brokers: [localhost:9092]
feeds:
  payments:
    topic: payments
    mapping:
      fields: {customer_id: Kunde, time: 'Bestellt\.am', type: {const: purchase}, amount: Betrag}
      time: {format: "02.01.2006", zone: UTC}
`)
	const rows = "Kunde;Bestellt.am;Betrag;Ort\nK1;01.02.2024;10.50;Ulm, Donau\nK1;05.02.2024;7.00;\nK2;06.02.2024;1.00;\n"
	for _, table := range []string{rows, "\xef\xbb\xbf" + strings.ReplaceAll(rows, "\n", "\r\n"), strings.ReplaceAll(rows, ";", "\t")} {
		o := with(config, write(t, "sales.csv", table))
		o.StopAtBad = true
		r := reported(t, o)
		if r.History.Events != 3 || r.History.Customers != 2 || r.History.Bad != 0 {
			t.Errorf("%q: %+v", table, r.History)
		}
	}
	_, _, err := run(t, options(t, write(t, "sales.csv", rows)))
	if err == nil || !strings.Contains(err.Error(), "no column customer_id, but Kunde, Bestellt.am, Betrag, Ort;") {
		t.Errorf("columns that no mapping reads: %v", err)
	}
	_, _, err = run(t, options(t, write(t, "sales.csv", "customer_id,time,amount\nK1,2024-02-01,1\n")))
	if err == nil || !strings.Contains(err.Error(), "no column topic, but customer_id, time, amount;") {
		t.Errorf("a table without topics for several feeds: %v", err)
	}
}

// Where only the dates and decimals are a country's own, no fields need to be named.
func TestATableWithItsOwnDatesNeedsNoFields(t *testing.T) {
	config := write(t, "sales.yaml", `
group: backtest
brokers: [localhost:9092]
feeds:
  payments: {topic: payments, mapping: {time: {format: "02.01.2006", zone: UTC}, decimal_comma: true}}
  complaints: {topic: complaints, mapping: {time: {format: "02.01.2006", zone: UTC}}}
`)
	const table = "customer_id;time;topic;type;amount;complaint_id;Ort\nK1;01.01.2024;payment;purchase;1.867,25;;Ulm\nK1;01.02.2024;complaint;opened;;C1;Ulm\nK1;02.02.2024;payment;purchase;1.867;;\n"
	r := reported(t, with(config, write(t, "sales.csv", table)))
	if h := r.History; h.Events != 3 || h.Bad != 0 || h.From != "2024-01-01" || h.To != "2024-02-02" || h.Types["complaints/opened"] != 1 || h.Types["payments/purchase"] != 2 {
		t.Errorf("%+v", h)
	}
}

// Amounts such as 1.867 may be thousands: what was read is said, at the top of all forms of the report, if nothing in the table speaks against it.
func TestAmountsThatLookLikeThousandsAreTold(t *testing.T) {
	config := func(more string) string {
		return write(t, "sales.yaml", `
group: backtest
brokers: [localhost:9092]
feeds:
  payments:
    topic: payments
    mapping:
      fields: {customer_id: Kunde, time: Datum, type: {const: purchase}, amount: Betrag}
      time: {format: "02.01.2006", zone: UTC}
`+more)
	}
	report := func(t *testing.T, config string, amounts ...string) *backtest.Report {
		t.Helper()
		table := "Kunde;Datum;Betrag;Gewicht\n"
		for i, a := range amounts {
			table += fmt.Sprintf("K%d;%02d.02.2024;%s;1.5\n", i%2, i+1, a)
		}
		return reported(t, with(config, write(t, "sales.csv", table)))
	}
	for _, amounts := range [][]string{{"950", "1.867", "2.100", "12.000"}, {"12.000", "2.100", "1.867", "950"}} {
		r := report(t, config(""), amounts...)
		const want = "3 of 4 amounts (Betrag) have three digits behind a point, and none another number of them: 1.867 was read as 1 and 867 thousandths, not as 1867. " +
			"If the point stands between thousands, set feeds.payments.mapping.decimal_comma to true."
		if got := r.History.Thousands; got == nil || !reflect.DeepEqual(*got, backtest.ThousandsReport{Columns: []string{"Betrag"}, Amounts: 4, Like: 3, Example: "1.867"}) {
			t.Errorf("%v: told is %+v", amounts, got)
		}
		for form, write := range map[string]func(io.Writer) error{"text": r.Text, "page": r.HTML} {
			var b strings.Builder
			if err := write(&b); err != nil {
				t.Fatal(err)
			}
			if at := strings.Index(b.String(), want); at < 0 || at > strings.Index(b.String(), "per 1,000") {
				t.Errorf("not at the top of the %s:\n%s", form, b.String())
			}
		}
	}
	for name, c := range map[string]struct {
		config  string
		amounts []string
	}{
		"decimal_comma is set":     {config("      decimal_comma: true\n"), []string{"1.867", "2.100", "12.000"}},
		"one has two decimals":     {config(""), []string{"1.867", "2.100", "12.000", "10.50"}},
		"one is below a thousand":  {config(""), []string{"1.867", "2.100", "12.000", "0.125"}},
		"one has thousands closed": {config(""), []string{"1.867", "2.100", "12.000", "1867"}},
		"two are few":              {config(""), []string{"1.867", "2.100", "12", "7"}},
		"they have no point":       {config(""), []string{"867", "100", "12", "7"}},
	} {
		if r := report(t, c.config, c.amounts...); r.History.Thousands != nil || r.History.Events != len(c.amounts) {
			t.Errorf("%s: %+v", name, r.History)
		}
	}
}

// A file in another encoding is refused as a whole, with what to do, and not for columns that nobody wrote so. A byte order mark of UTF-8 is none of them, and a sign that the head cuts in two is whole.
func TestAFileThatIsNotUTF8IsRefused(t *testing.T) {
	const head = "customer_id,time,topic,type,amount,extra\n"
	row := func(name string) string { return name + ",2024-01-01T00:00:00Z,payment,purchase,10,\n" }
	wide := func(text string, order binary.AppendByteOrder) string {
		var b []byte
		for _, u := range utf16.Encode([]rune(text)) {
			b = order.AppendUint16(b, u)
		}
		return string(b)
	}
	for name, c := range map[string]struct{ text, want string }{
		"UTF-16, little end first": {wide("\ufeff"+head+row("Müller"), binary.LittleEndian), "iconv -f UTF-16 -t UTF-8"},
		"UTF-16, big end first":    {wide("\ufeff"+head+row("Müller"), binary.BigEndian), "iconv -f UTF-16 -t UTF-8"},
		"UTF-16 without a mark":    {wide(head+row("Müller"), binary.LittleEndian), "iconv -f UTF-16 -t UTF-8"},
		"Latin-1 in the names":     {"St\xfcck," + head + "1," + row("a"), "iconv -f WINDOWS-1252 -t UTF-8"},
		"Latin-1 in a row":         {head + row("M\xfcller"), "iconv -f WINDOWS-1252 -t UTF-8"},
		"Latin-1 at the end":       {strings.TrimSuffix(head, "\n") + ",ort\n" + strings.TrimSuffix(row("a"), "\n") + ",Orl\xe9", "iconv -f WINDOWS-1252"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := run(t, options(t, write(t, "sales.csv", c.text)))
			if err == nil || !strings.Contains(err.Error(), "sales.csv: the file is not a text in UTF-8") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q in it", err, c.want)
			}
		})
	}
	for shift := range 4 { // the head ends within one of the signs of two bytes, or behind it
		long := "\xef\xbb\xbf" + head + row(strings.Repeat("a", 100+shift)+strings.Repeat("ü", 60))
		for len(long) < 1<<16 {
			long += row(strings.Repeat("ü", 120))
		}
		mustRun(t, options(t, write(t, "sales.csv", long)))
	}
	late := head + strings.Repeat(row("a"), 2000) + row("M\xfcller")
	if out := mustRun(t, options(t, write(t, "sales.csv", late))); !strings.Contains(out, `"bad_rows":1`) && !strings.Contains(out, `"bad_rows": 1`) {
		t.Errorf("one broken row far behind is not one bad row:\n%.500s", out)
	}
}

// Acts of people are counted, whatever they say, also where no feed of them is configured.
func TestActsAreCounted(t *testing.T) {
	rows := "customer_id,time,topic,type,amount,extra\na,2024-01-01T00:00:00Z,payment,purchase,10,\na,2024-01-02T00:00:00Z,control,acknowledge,,\na,2024-01-03T00:00:00Z,payment,purchase,10,\n"
	o := options(t, write(t, "acts.csv", rows))
	o.StopAtBad = true
	r := reported(t, o)
	if r.History.Acts != 1 || r.History.Events != 2 || r.History.Bad != 0 {
		t.Errorf("%+v", r.History)
	}
}

// A complaint of a type that nobody knows is a note, as in a live group, and the report says how many there were: it may be the word for one that is opened.
func TestComplaintsOfUnknownTypeAreTold(t *testing.T) {
	rows := "customer_id,time,topic,type,amount,extra\na,2024-01-01T00:00:00Z,payment,purchase,10,\na,2024-01-02T00:00:00Z,complaint,grumble,,\na,2024-01-02T10:00:00Z,complaint,note,,\na,2024-01-03T00:00:00Z,payment,purchase,10,\n"
	r := reported(t, options(t, write(t, "notes.csv", rows)))
	var text strings.Builder
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	if r.History.Notes != 1 || !strings.Contains(text.String(), "1 complaint records are of a type that ebb does not know") ||
		!strings.Contains(text.String(), "\nRead: complaints/note 2, payments/purchase 2\n") {
		t.Errorf("%+v\n%s", r.History, text.String())
	}
}

func TestBrokenRowsStop(t *testing.T) {
	o := options(t, write(t, "broken.csv", broken))
	o.StopAtBad = true
	_, _, err := run(t, o)
	if err == nil || !strings.Contains(err.Error(), "broken.csv:3: amount_") {
		t.Errorf("%v; want the first bad row", err)
	}
}

func TestTooManyBrokenRowsAreRefused(t *testing.T) {
	_, _, err := run(t, options(t, write(t, "broken.csv", broken)))
	if err == nil || !strings.Contains(err.Error(), "7 of 9 rows cannot be used (77.8 %), more than the 5.0 %") {
		t.Errorf("%v; want a refusal with the share", err)
	}
}

func TestNothingToReplay(t *testing.T) {
	for name, text := range map[string]string{
		"empty.csv":  "",
		"header.csv": "customer_id,time,topic\n",
		"names.csv":  "who,when\na,b\n",
	} {
		if _, _, err := run(t, options(t, write(t, name, text))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, _, err := run(t, options(t, filepath.Join(t.TempDir(), "none.csv"))); err == nil {
		t.Error("a file that is not there: no error")
	}
}

func TestHistoryThatDoesNotFitIsRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("customer_id,time,topic,type,amount\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "c%d,2024-01-01T00:00:00Z,payment,purchase,1\n", i)
	}
	o := options(t, write(t, "large.csv", b.String()))
	o.MaxMemory = 100_000
	if _, _, err := run(t, o); err == nil || !strings.Contains(err.Error(), "more than the 0.1 MB") {
		t.Errorf("%v; want a refusal", err)
	}
}

// What somebody does not pay for any more is judged as a live group judges it: by whether it was paid again within the horizon.
func TestPartialLapseIsJudged(t *testing.T) {
	var b strings.Builder
	b.WriteString("customer_id,time,topic,type,amount,extra\n")
	start := time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)
	buys := func(id string, day int, what string) {
		fmt.Fprintf(&b, "%s,%s,payment,purchase,20,\"{\"\"category\"\":\"\"%s\"\"}\"\n", id, start.AddDate(0, 0, day).Format(time.RFC3339), what)
	}
	for _, c := range []struct {
		id   string
		back int // day on which it is bought again, 0: never
	}{{"never", 0}, {"soon", 330}, {"late", 380}} {
		for day := 0; day < 400; day += 7 {
			buys(c.id, day, "bread")
			if day%14 == 0 && day <= 280 || c.back != 0 && day >= c.back {
				buys(c.id, day, "coffee")
			}
		}
	}
	rules := write(t, "rules.yaml", string(backtest.DefaultConfig())+"detectors: {partial_lapse: {enabled: true}}\n")
	r := reported(t, with(rules, write(t, "history.csv", b.String())))
	i := slices.IndexFunc(r.Methods[0].Detectors, func(d backtest.DetectorReport) bool { return d.Detector == detectors.PartialLapseName })
	if i < 0 {
		t.Fatal("partial_lapse is not in the report")
	}
	d := r.Methods[0].Detectors[i]
	if d.Alerts != 3 || d.Right == nil || *d.Right != 2 || *d.Wrong != 1 || *d.Undecided != 0 || d.Precision == nil || d.Lapses != nil {
		text, _ := json.Marshal(d)
		t.Errorf("got %s, want 2 right and 1 wrong", text)
	}
}

// A quote that nobody ends takes in all lines behind it. Each of them is a bad row: what is left would be judged as if all customers had left there.
func TestAQuoteThatIsNotEndedLosesNoRowUncounted(t *testing.T) {
	text := "customer_id,time,topic,type,amount,extra\n"
	for i := range 100 {
		row := fmt.Sprintf("a,2024-%02d-%02dT00:00:00Z,payment,purchase,10,", 1+i/28, 1+i%28)
		if i == 9 {
			row += `"`
		}
		text += row + "\n"
	}
	_, _, err := run(t, options(t, write(t, "broken.csv", text)))
	if err == nil || !strings.Contains(err.Error(), "91 of 100 rows cannot be used") || !strings.Contains(err.Error(), "broken.csv:11: unreadable_row") {
		t.Errorf("%v; want a refusal of the 91 lines from 11 on", err)
	}
}

// A bad row is named by its line of the file, also where empty lines stand above the first row.
func TestEmptyLinesAtTheTopCount(t *testing.T) {
	for name, text := range map[string]string{
		"sales.csv": "\n\r\ncustomer_id,time,topic,type,amount,extra\na,2024-01-01T00:00:00Z,payment,purchase,10,\n" +
			"a,2024-01-02T00:00:00Z,payment,purchase,ten,\na,2024-01-03T00:00:00Z,payment,pur\"chase,10,\n",
		"sales.ndjson": "\n\n\n" + `{"topic":"payments","customer_id":"a","time":"2024-01-01T00:00:00Z","type":"purchase","amount":10}` + "\n" +
			`{"topic":"payments","customer_id":"a","time":"2024-01-02T00:00:00Z","type":"purchase","amount":"ten"}` + "\n{\n",
	} {
		o := options(t, write(t, name, text))
		o.MaxBad = 100
		_, errs, err := run(t, o)
		if err != nil || !strings.Contains(errs, name+":5: amount_") || !strings.Contains(errs, name+":6: unreadable_row") {
			t.Errorf("%v; want the bad rows in lines 5 and 6\n%s", err, errs)
		}
	}
}

// The hash of the configuration names the rules that a report is of: those with another horizon are others, wherever it was given.
func TestTheHashNamesTheHorizonThatHolds(t *testing.T) {
	file := write(t, "sales.csv", "customer_id,time,topic,type,amount,extra\na,2024-01-01T00:00:00Z,payment,purchase,10,\n")
	hash := func(horizon int, text string) string {
		o := with(write(t, "ebb.yaml", text), file)
		o.Horizon = horizon
		return reported(t, o).Config
	}
	short := strings.TrimRight(plainText(), "\n") + "\nalerts: {horizon: 45d}\n"
	if hash(45, plainText()) == hash(0, plainText()) || hash(45, plainText()) != hash(0, short) {
		t.Error("--horizon 45 has the hash of a horizon of 60 days, or another than alerts.horizon: 45d")
	}
}

// On days without any event customers are scored too, also where the history ends with them: what comes later says nothing of them.
func TestDaysBehindTheLastEventAreScored(t *testing.T) {
	at := time.Date(2024, time.June, 30, 0, 0, 0, 0, time.UTC)
	score := func(file string) string {
		o := options(t, file)
		o.ScoreAt, o.Scores = []time.Time{at}, filepath.Join(t.TempDir(), "scores.csv")
		mustRun(t, o)
		b, err := os.ReadFile(o.Scores)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	head, rows := table(t, history)
	column := slices.Index(head, "time")
	for _, last := range []string{"2024-06-29", "2024-06-17"} {
		var past, both [][]string
		for _, row := range rows {
			if row[column] < last {
				past = append(past, row)
			}
			if row[column] < last || row[column] > "2024-07-01" {
				both = append(both, row)
			}
		}
		columns := []int{0, 1, 2, 3, 4, 5}
		want := score(write(t, "both.csv", asTable(t, head, both, columns)))
		if strings.Count(want, "\n") < 20 {
			t.Fatalf("nobody to be compared:\n%s", want)
		}
		same(t, want, score(write(t, "past.csv", asTable(t, head, past, columns))))
	}
}
