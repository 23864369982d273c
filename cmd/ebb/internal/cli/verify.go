package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"ebb/alerts"
	"ebb/cmd/ebb/internal/config"
	"ebb/stream/conn"
	"ebb/stream/tail"
)

func (c *CLI) alertsVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that no step of an alert is missing or there twice",
		Long: `verify reads the topic of all steps and the table of open alerts, as a subscriber does
that reads committed records, and checks them against each other: the revisions of each
alert are 1, 2, 3, each once and in this order, nothing follows a resolution, each step's
ce_id is its own, and exactly the alerts whose newest step fires are in the table, with
that step. Of alerts whose first steps the topic does not have any more (its retention, or
a state that was imported) only the rest is checked. ebb may run meanwhile. The exit code
is 1 if anything is wrong.`,
		Example: "  ebb alerts verify\n  ebb alerts verify -c /etc/ebb/ebb.yaml --output json",
		Args:    cobra.NoArgs,
	}
	path, asJSON := file(cmd), output(cmd)
	cmd.RunE = work(func(cmd *cobra.Command) error {
		return c.withCluster(cmd.Context(), *path, func(cfg *config.Config, cluster *conn.Cluster) error {
			v, err := verify(cmd.Context(), cluster, cfg.Topics.Alerts, cfg.Topics.OpenAlerts)
			if err != nil {
				return err
			}
			if err := c.result(asJSON(), v, v.text); err != nil {
				return err
			}
			if !v.OK {
				return errReported
			}
			return nil
		})
	})
	return cmd
}

// verified is what a check of the alert topics found.
type verified struct {
	OK     bool    `json:"ok"`
	Steps  int     `json:"steps"`
	Alerts int     `json:"alerts"`
	Open   int     `json:"open"`
	Cut    int     `json:"begun_before_the_topic"` // alerts whose first steps the topic does not have any more
	Others int     `json:"other_records"`          // records on the topic that are no steps
	Count  int     `json:"fault_count"`
	Faults []fault `json:"faults"` // the first of them
}

// fault is something that is wrong with one alert.
type fault struct {
	Alert string `json:"alert_id"`
	What  string `json:"what"`
}

// namedFaults is how many faults are told one by one; all are counted.
const namedFaults = 100

func (v *verified) fault(alert, format string, args ...any) {
	if v.Count++; v.Count <= namedFaults {
		v.Faults = append(v.Faults, fault{alert, fmt.Sprintf(format, args...)})
	}
}

func (v *verified) text(w io.Writer) {
	for _, f := range v.Faults {
		fmt.Fprintf(w, "alert %s: %s\n", f.Alert, f.What)
	}
	if more := v.Count - len(v.Faults); more > 0 {
		fmt.Fprintf(w, "and %d more faults\n", more)
	}
	fmt.Fprintf(w, "%d steps of %d alerts, %d of them open", v.Steps, v.Alerts, v.Open)
	if v.Cut > 0 {
		fmt.Fprintf(w, "; %d began before what the topic still has", v.Cut)
	}
	if v.Others > 0 {
		fmt.Fprintf(w, "; %d records are no steps", v.Others)
	}
	if v.OK {
		fmt.Fprint(w, ": every step is there, once")
	}
	fmt.Fprintln(w)
}

// told are the steps of one alert.
type told struct {
	revisions []uint32
	newest    *alerts.Alert
	resolved  uint32 // revision of the resolution, 0 for none
}

// steps are what the topic of all steps says.
type steps struct {
	all    map[string]*told
	begins map[int32]int64 // offset of the first record, by partition
	oldest int64           // event time of the earliest step, ms; 0 without steps
	last   map[string]place
	v      *verified
}

// place is where the newest step of an alert lies.
type place struct {
	partition int32
	revision  uint32
}

// verify reads the table before and after the steps: what is the same in both did not change meanwhile, so the steps have to agree with it.
func verify(ctx context.Context, cluster *conn.Cluster, topic, table string) (*verified, error) {
	before, err := openNow(ctx, cluster, table)
	if err != nil {
		return nil, err
	}
	v := &verified{Faults: []fault{}}
	s := &steps{all: map[string]*told{}, begins: map[int32]int64{}, last: map[string]place{}, v: v}
	if err := tail.Read(ctx, cluster, tail.Options{Topic: topic, UntilEnd: true}, func(r tail.Record) error { s.take(&r); return nil }); err != nil {
		return nil, err
	}
	after, err := openNow(ctx, cluster, table)
	if err != nil {
		return nil, err
	}
	s.judge(before, after)
	v.OK = v.Count == 0
	return v, nil
}

// openNow is the revision of every alert in the table of open ones.
func openNow(ctx context.Context, cluster *conn.Cluster, table string) (map[string]*alerts.Alert, error) {
	open := map[string]*alerts.Alert{}
	err := tail.Read(ctx, cluster, tail.Options{Topic: table, UntilEnd: true}, func(r tail.Record) error {
		delete(open, string(r.Key))
		if a, err := alerts.Parse(r.Value); err == nil {
			open[string(r.Key)] = a
		}
		return nil
	})
	return open, err
}

// take takes one record of the topic. Records of a partition come in its order.
func (s *steps) take(r *tail.Record) {
	if _, ok := s.begins[r.Partition]; !ok {
		s.begins[r.Partition] = r.Offset
	}
	a, err := alerts.Parse(r.Value)
	if err != nil {
		s.v.Others++
		return
	}
	s.v.Steps++
	if at := a.Time.UnixMilli(); s.oldest == 0 || at < s.oldest {
		s.oldest = at
	}
	t := s.all[a.AlertID]
	if t == nil {
		t = &told{}
		s.all[a.AlertID] = t
	}
	t.revisions = append(t.revisions, a.Revision)
	if !a.Firing() {
		t.resolved = a.Revision
	}
	if t.newest == nil || a.Revision > t.newest.Revision {
		t.newest = a
	}
	// Partitions that were added move a customer, and with him what follows; only within one the order is that of the steps.
	if p, ok := s.last[a.AlertID]; ok && p.partition == r.Partition && a.Revision < p.revision {
		s.v.fault(a.AlertID, "revision %d comes after revision %d (partition %d, offset %d)", a.Revision, p.revision, r.Partition, r.Offset)
	}
	s.last[a.AlertID] = place{r.Partition, a.Revision}
	want := fmt.Sprintf("%s/%d", a.AlertID, a.Revision)
	for _, h := range r.Headers {
		if h.Key == "ce_id" && string(h.Value) != want {
			s.v.fault(a.AlertID, "the ce_id of revision %d is %s", a.Revision, printable(string(h.Value)))
		}
	}
}

// cutOff reports whether the first steps of an alert may be such that the topic does not have any more, or never had.
func (s *steps) cutOff(a *alerts.Alert) bool {
	for _, first := range s.begins {
		if first > 0 {
			return true
		}
	}
	return s.oldest == 0 || a.FirstFiredAt.UnixMilli() < s.oldest
}

// judge looks at each alert, in the order of their ids.
func (s *steps) judge(before, after map[string]*alerts.Alert) {
	v := s.v
	v.Alerts, v.Open = len(s.all), len(after)
	var ids []string
	for id := range s.all {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		t := s.all[id]
		s.revisions(id, t)
		b, a := before[id], after[id]
		if revision(b) != revision(a) {
			continue // it changed while it was read
		}
		switch firing := t.newest.Firing(); {
		case firing && a == nil:
			v.fault(id, "its newest step, revision %d, fires, and the table of open alerts does not have it", t.newest.Revision)
		case !firing && a != nil:
			v.fault(id, "it is resolved, and the table of open alerts has it with revision %d", a.Revision)
		case firing && a.Revision != t.newest.Revision:
			v.fault(id, "its newest step is revision %d, and the table of open alerts has it with revision %d", t.newest.Revision, a.Revision)
		}
	}
	ids = ids[:0]
	for id, a := range after {
		if s.all[id] == nil && revision(before[id]) == revision(a) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		if s.cutOff(after[id]) {
			v.Cut++
			continue
		}
		v.fault(id, "the table of open alerts has it with revision %d, and the topic has no step of it", after[id].Revision)
	}
}

func revision(a *alerts.Alert) uint32 {
	if a == nil {
		return 0
	}
	return a.Revision
}

// revisions have to be there without a gap, each once.
func (s *steps) revisions(id string, t *told) {
	list := slices.Sorted(slices.Values(t.revisions))
	if list[0] > 1 {
		if s.cutOff(t.newest) {
			s.v.Cut++
		} else {
			s.v.fault(id, "it begins with revision %d", list[0])
		}
	}
	for i := 1; i < len(list); i++ {
		switch cmp.Compare(list[i], list[i-1]+1) {
		case -1:
			s.v.fault(id, "revision %d is there more than once", list[i])
		case 1:
			s.v.fault(id, "revision %d is followed by %d", list[i-1], list[i])
		}
	}
	if t.resolved != 0 && list[len(list)-1] > t.resolved {
		s.v.fault(id, "revision %d follows its resolution, revision %d", list[len(list)-1], t.resolved)
	}
}
