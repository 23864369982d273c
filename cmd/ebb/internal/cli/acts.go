package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ebb/alerts"
	"ebb/cmd/ebb/internal/config"
	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/conn"
	"ebb/stream/event"
	"ebb/stream/partition"
	"ebb/stream/post"
	"ebb/stream/tail"
)

// act is a record of the control feed.
type act struct {
	ID       string `json:"id"`
	Customer string `json:"customer_id,omitempty"` // none for an alert about a cohort
	Alert    string `json:"alert_id"`
	Time     string `json:"time"`
	Type     string `json:"type"`
	By       string `json:"by,omitempty"`
	Note     string `json:"note,omitempty"`
	Assignee string `json:"assignee,omitempty"`
	Until    string `json:"until,omitempty"`
	Outcome  string `json:"outcome,omitempty"`
	Cause    string `json:"cause,omitempty"`
}

// actFlags are what all acts have.
type actFlags struct {
	path     *string
	json     func() bool
	by, note *string
	wait     *bool
	patience *length
}

// actWait is how long a command waits for its act to be carried out, unless told otherwise.
const actWait = 30 * time.Second

func (c *CLI) actCommand(use, short, long, example string, fill func(a *act, now time.Time) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use + " ID", Short: short, Example: example, Args: oneAlert,
		Long: long + `

ID is the alert's id, or as much of its begin as no other open alert has. The act is
written to the topic of feeds.control; the command waits until ebb has carried it out,
and prints the step that came of it. Nothing comes of what is said of an alert that is
over, but for reopen.`,
	}
	f := actFlags{path: file(cmd), json: output(cmd), patience: &length{actWait}}
	user, _ := c.env("USER")
	f.by = cmd.Flags().String("by", user, "who does it")
	f.note = cmd.Flags().String("note", "", "what there is to say about it")
	f.wait = cmd.Flags().Bool("wait", true, "wait until it is carried out")
	cmd.Flags().Var(f.patience, "timeout", "how long to wait at most")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		now := c.deps.Now()
		a := act{ID: "cli-" + rand.Text(), Time: now.UTC().Format(time.RFC3339Nano), Type: cmd.Name(), By: *f.by, Note: *f.note}
		if a.Type == "ack" {
			a.Type = event.KindAcknowledge.String()
		}
		if err := fill(&a, now); err != nil {
			return wrong{err}
		}
		if err := c.carryOut(cmd.Context(), args[0], &a, &f); err != nil {
			return ran{err}
		}
		return nil
	}
	return cmd
}

// env looks a variable of the environment up.
func (c *CLI) env(name string) (string, bool) {
	if c.deps.Config.Env == nil {
		return os.LookupEnv(name)
	}
	return c.deps.Config.Env(name)
}

// nothing is the fill of an act that has nothing of its own.
func nothing(*act, time.Time) error { return nil }

func (c *CLI) acts() []*cobra.Command {
	return []*cobra.Command{
		c.actCommand(
			"ack", "Say that somebody has taken notice",
			"ack acknowledges an alert: it is not reminded of any more.",
			"  ebb alerts ack 3f2a91 --by kim --note 'will call tomorrow'", nothing,
		),
		c.alertsAssign(),
		c.actCommand("unassign", "Let nobody be in charge", "unassign takes an assignment back.", "  ebb alerts unassign 3f2a91", nothing),
		c.actCommand(
			"contacted", "Note that somebody spoke with the customer", "contacted notes when and by whom the customer was last spoken to about the alert.",
			"  ebb alerts contacted 3f2a91 --note 'away until February'", nothing,
		),
		c.alertsSnooze(),
		c.actCommand("unsnooze", "End a snooze before its time", "unsnooze ends a snooze. Nothing is told again.", "  ebb alerts unsnooze 3f2a91", nothing),
		c.alertsOutcome(),
		c.actCommand(
			"reopen", "Take an outcome back",
			`reopen takes back the outcome that closed an alert: what still holds fires again at
once, as a new alert.`,
			"  ebb alerts reopen 3f2a91", nothing,
		),
	}
}

func (c *CLI) alertsAssign() *cobra.Command {
	var to string
	cmd := c.actCommand(
		"assign", "Put somebody in charge", "assign says who works on the alert.", "  ebb alerts assign 3f2a91 --to lee",
		func(a *act, _ time.Time) error {
			if a.Assignee = cmp.Or(to, a.By); a.Assignee == "" {
				return errors.New("say who with --to, or who you are with --by to take it yourself")
			}
			return nil
		},
	)
	cmd.Flags().StringVar(&to, "to", "", "who works on it; left out: who assigns")
	return cmd
}

func (c *CLI) alertsSnooze() *cobra.Command {
	var until string
	var span length
	cmd := c.actCommand(
		"snooze", "Leave an alert alone for a while",
		"snooze puts an alert off. If it still holds then, it is told again, as reminded.",
		"  ebb alerts snooze 3f2a91 --for 7d\n  ebb alerts snooze 3f2a91 --until 2026-02-01T08:00:00Z",
		func(a *act, now time.Time) error {
			end, err := snoozeEnd(now, span.value, until)
			a.Until = end.UTC().Format(time.RFC3339)
			return err
		},
	)
	cmd.Flags().Var(&span, "for", "for how long")
	cmd.Flags().StringVar(&until, "until", "", "until when: a time in RFC 3339, or a date")
	return cmd
}

// snoozeEnd is when a snooze ends.
func snoozeEnd(now time.Time, span time.Duration, until string) (time.Time, error) {
	switch {
	case (span != 0) == (until != ""):
		return now, errors.New("say for how long with --for, or until when with --until")
	case span != 0:
		return now.Add(span), nil
	}
	end, err := time.Parse(time.RFC3339, until)
	if err != nil {
		if end, err = time.Parse(time.DateOnly, until); err != nil {
			return now, fmt.Errorf("--until %s is neither a time like 2026-02-01T08:00:00Z nor a date like 2026-02-01", until)
		}
	}
	if !end.After(now) {
		return now, fmt.Errorf("--until %s is over", until)
	}
	return end, nil
}

func (c *CLI) alertsOutcome() *cobra.Command {
	result := choice{allowed: event.ResultNames()}
	cause := choice{allowed: event.CauseNames(), name: "cause"}
	cmd := c.actCommand(
		"outcome", "Say what became of an alert, and close it",
		`outcome closes an alert with what became of it. The same condition is not told again
for a while (alerts.quiet_after_outcome), unless something new happens. It counts as the
truth when ebb's precision is measured, also for an alert that is over.

Causes: price, competitor_offer, product_quality, service_process, staff,
broken_promise, payment_failure, need_ended, moved_or_deceased, brand, unknown.`,
		"  ebb alerts outcome 3f2a91 --result saved --note 'took the discount'\n  ebb alerts outcome 3f2a91 --result lost --cause competitor_offer",
		func(a *act, _ time.Time) error {
			if a.Outcome, a.Cause = result.value, cause.value; a.Outcome == "" {
				return errors.New("say what became of it with --result: " + strings.Join(result.allowed, ", "))
			}
			return nil
		},
	)
	cmd.Flags().Var(&result, "result", "what became of it")
	cmd.Flags().Var(&cause, "cause", "why the customer leaves, or would have")
	return cmd
}

// alertsShow prints one alert.
func (c *CLI) alertsShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print the newest step of one alert",
		Long: `show prints the newest step of an alert: of an open one from the table of open
alerts, of one that is over from the topic of all steps.`,
		Example: "  ebb alerts show 3f2a91\n  ebb alerts show 3f2a91 --output json | jq .evidence",
		Args:    oneAlert,
	}
	path, asJSON := file(cmd), output(cmd)
	cmd.RunE = work(func(cmd *cobra.Command) error {
		return c.withCluster(cmd.Context(), *path, func(cfg *config.Config, cluster *conn.Cluster) error {
			known, err := find(cmd.Context(), cfg, cluster, cmd.Flags().Arg(0))
			if err != nil {
				return err
			}
			return c.printStep(known, asJSON())
		})
	})
	return cmd
}

// known is the newest step of an alert.
type known struct {
	*alerts.Alert
	value []byte
}

func (c *CLI) printStep(k *known, asJSON bool) error {
	var line bytes.Buffer
	if !asJSON {
		line.WriteString(stepLine(k.Alert))
		for _, d := range details(k.Alert) {
			line.WriteString("\n  " + printable(d))
		}
	} else if err := json.Compact(&line, k.value); err != nil {
		return err
	}
	line.WriteByte('\n')
	_, err := c.deps.Stdout.Write(line.Bytes())
	return err
}

// oneAlert wants the id of one alert.
func oneAlert(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one alert by its ID, or as much of its begin as no other has: %s; `ebb alerts tail` lists them", cmd.UseLine())
	}
	return nil
}

// details are what stands behind a step, a line each: how likely, why, what it was held back for, and what people did.
func details(a *alerts.Alert) (lines []string) {
	say := func(there bool, form string, args ...any) {
		if there {
			lines = append(lines, fmt.Sprintf(form, args...))
		}
	}
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	if a.Probability != nil {
		say(true, "probability %.0f %% within %d days", 100**a.Probability, a.HorizonDays)
	}
	say(a.SuspectedCause != "", "suspected cause: %s", strings.ReplaceAll(a.SuspectedCause, "_", " "))
	if h := a.HeldBackFor; h != nil {
		say(true, "was held back for %s, alert %s", h.ID, h.AlertID[:min(len(h.AlertID), shortID)])
	}
	say(!a.AcknowledgedAt.IsZero(), "acknowledged by %s at %s", cmp.Or(a.AcknowledgedBy, "somebody"), at(a.AcknowledgedAt))
	say(a.Assignee != "", "assigned to %s", a.Assignee)
	say(!a.ContactedAt.IsZero(), "contacted by %s at %s", cmp.Or(a.ContactedBy, "somebody"), at(a.ContactedAt))
	say(!a.SnoozedUntil.IsZero(), "snoozed until %s", at(a.SnoozedUntil))
	say(a.Outcome != "", "outcome: %s", strings.TrimSpace(a.Outcome+" "+strings.ReplaceAll(a.Cause, "_", " ")))
	say(a.Note != "", "note: %s", a.Note)
	return lines
}

// find looks for the alert whose id begins with a text: among those that are open, else among all steps that the topic still has.
func find(ctx context.Context, cfg *config.Config, cluster *conn.Cluster, id string) (*known, error) {
	id = strings.ToLower(id)
	open := map[string]*known{}
	err := tail.Read(ctx, cluster, tail.Options{Topic: cfg.Topics.OpenAlerts, UntilEnd: true}, func(r tail.Record) error {
		if !strings.HasPrefix(string(r.Key), id) {
			return nil
		}
		delete(open, string(r.Key))
		if a, err := alerts.Parse(r.Value); err == nil {
			open[string(r.Key)] = &known{a, bytes.Clone(r.Value)}
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(open) == 0:
		return findOver(ctx, cfg, cluster, id)
	case len(open) > 1:
		return nil, fmt.Errorf("%d open alerts have an id that begins with %s; give more of it", len(open), id)
	}
	for _, k := range open {
		return k, nil
	}
	return nil, nil
}

// findOver looks for an alert that is over.
func findOver(ctx context.Context, cfg *config.Config, cluster *conn.Cluster, id string) (*known, error) {
	all := map[string]*known{}
	err := tail.Read(ctx, cluster, tail.Options{Topic: cfg.Topics.Alerts, UntilEnd: true}, func(r tail.Record) error {
		a, err := alerts.Parse(r.Value)
		if err != nil || !strings.HasPrefix(a.AlertID, id) {
			return nil //nolint:nilerr // what others wrote to the topic is no alert
		}
		all[a.AlertID] = &known{a, bytes.Clone(r.Value)}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(all) == 0:
		return nil, fmt.Errorf("no alert has an id that begins with %s; ebb alerts tail --from-start --until-end lists them", id)
	case len(all) > 1:
		return nil, fmt.Errorf("%d alerts have an id that begins with %s; give more of it", len(all), id)
	}
	for _, k := range all {
		return k, nil
	}
	return nil, nil
}

// carryOut writes an act and waits for what comes of it.
func (c *CLI) carryOut(ctx context.Context, id string, a *act, f *actFlags) error {
	return c.withCluster(ctx, *f.path, func(cfg *config.Config, cluster *conn.Cluster) error {
		if err := writable(cfg); err != nil {
			return err
		}
		k, err := find(ctx, cfg, cluster, id)
		if err != nil {
			return err
		}
		a.Alert, a.Customer = k.AlertID, k.CustomerID
		if err := sensible(k, a); err != nil {
			return err
		}
		from, err := ends(ctx, cluster, cfg.Topics.Alerts)
		if err != nil {
			return err
		}
		if err := write(ctx, cfg, cluster, a, c.deps.Now()); err != nil {
			return err
		}
		r := reply{cluster, cfg.Topics.Alerts, from, f.patience.value}
		var after *known
		switch {
		case *f.wait && k.Firing():
			after, err = r.await(ctx, k.Alert, a)
		case *f.wait && a.Type == "reopen":
			if after, err = r.anew(ctx, k.Alert); errors.Is(err, errPatience) {
				fmt.Fprintf(c.deps.Stderr, "nothing fired anew within %s: it does not hold any more, or ebb does not run or is behind\n", f.patience.value)
				return c.written(a, f.json())
			}
		default: // what else is done about an alert that is over leads to no step
			return c.written(a, f.json())
		}
		if err != nil {
			return err
		}
		return c.printStep(after, f.json())
	})
}

// writable says what is missing in the configuration for acts to be written.
func writable(cfg *config.Config) error {
	feed := &cfg.Feeds.Control
	switch {
	case feed.Topic == "":
		return errors.New("there is no topic to write it to: set feeds.control, for example to {topic: control}, create that topic (ebb topics create), and restart ebb")
	case feed.Mapping != nil:
		return errors.New("feeds.control has a mapping, so its records have another form than this command writes: write the act with the tool that owns " + feed.Topic)
	case cfg.Partitioner == "none":
		return errors.New("partitioner is none, so it is not known which partition the customer has: set it to murmur2 or crc32, as the producers of the feeds have it")
	}
	return nil
}

// sensible refuses an act that would change nothing.
func sensible(k *known, a *act) error {
	late := a.Type == "outcome" || a.Type == "reopen"
	switch {
	case !k.Firing() && !late:
		return fmt.Errorf("alert %s is over: %s at %s", k.AlertID, cmp.Or(k.Reason, k.Step), k.Time.Format(time.RFC3339))
	case a.Type == "reopen" && (k.Firing() || k.Outcome == ""):
		return fmt.Errorf("alert %s was not closed with an outcome", k.AlertID)
	case a.Type == "outcome" && k.Outcome != "":
		return fmt.Errorf("alert %s was closed as %s at %s; ebb alerts reopen takes that back", k.AlertID, k.Outcome, k.Time.Format(time.RFC3339))
	case a.Type == "acknowledge" && !k.AcknowledgedAt.IsZero():
		return fmt.Errorf("alert %s was acknowledged by %s at %s", k.AlertID, cmp.Or(printable(k.AcknowledgedBy), "somebody"), k.AcknowledgedAt.Format(time.RFC3339))
	case a.Type == "assign" && k.Assignee == a.Assignee:
		return fmt.Errorf("alert %s is assigned to %s", k.AlertID, printable(a.Assignee))
	case a.Type == "unassign" && k.Assignee == "":
		return fmt.Errorf("alert %s is assigned to nobody", k.AlertID)
	case a.Type == "unsnooze" && k.SnoozedUntil.IsZero():
		return fmt.Errorf("alert %s is not snoozed", k.AlertID)
	}
	return nil
}

// ends are the ends of a topic's partitions.
func ends(ctx context.Context, cluster *conn.Cluster, topic string) (map[int32]int64, error) {
	parts, err := partitionsOf(ctx, cluster, topic)
	if err != nil {
		return nil, err
	}
	return cluster.Offsets(ctx, topic, parts, conn.Latest, conn.ReadUncommitted)
}

func partitionsOf(ctx context.Context, cluster *conn.Cluster, topic string) ([]int32, error) {
	topics, _, err := cluster.Topics(ctx, topic)
	if err != nil {
		return nil, err
	}
	t := topics[topic]
	if t.Err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, t.Err)
	}
	parts := make([]int32, len(t.Partitions))
	for i, p := range t.Partitions {
		parts[i] = p.ID
	}
	return parts, nil
}

// write puts the act where the customer's task reads it.
func write(ctx context.Context, cfg *config.Config, cluster *conn.Cluster, a *act, at time.Time) error {
	parts, err := partitionsOf(ctx, cluster, cfg.Feeds.Control.Topic)
	if err != nil {
		return err
	}
	part, err := partition.Parse(cfg.Partitioner)
	if err != nil {
		return err
	}
	var value bytes.Buffer
	if err := writeJSON(&value, a); err != nil {
		return err
	}
	var key []byte
	to := int32(0) // what is about nobody in particular lies anywhere
	if a.Customer != "" {
		key = []byte(a.Customer)
		to = part(key, int32(len(parts)))
	}
	return post.Record(ctx, cluster, cfg.Feeds.Control.Topic, to, key, bytes.TrimSpace(value.Bytes()), at)
}

// written tells of an act for whose step nobody waits.
func (c *CLI) written(a *act, asJSON bool) error {
	if asJSON {
		return writeJSON(c.deps.Stdout, a)
	}
	_, err := fmt.Fprintf(c.deps.Stdout, "written: %s of alert %s\n", a.Type, a.Alert)
	return err
}

// Errors of looking for a step: it ends the search, or there was none in the time for it.
var (
	errFound    = errors.New("found")
	errPatience = errors.New("no step within the time")
)

// reply is where the step is looked for that an act leads to: in the topic of alerts, from some offsets on, for a time.
type reply struct {
	cluster  *conn.Cluster
	topic    string
	from     map[int32]int64
	patience time.Duration
}

// first returns the first step that is wanted; errPatience if none comes in time.
func (r *reply) first(ctx context.Context, wanted func(*alerts.Alert) bool) (*known, error) {
	limited, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	var found *known
	err := tail.Read(limited, r.cluster, tail.Options{Topic: r.topic, Offsets: r.from}, func(rec tail.Record) error {
		x, err := alerts.Parse(rec.Value)
		if err != nil || !wanted(x) {
			return nil //nolint:nilerr // what others wrote to the topic is no answer
		}
		found = &known{x, bytes.Clone(rec.Value)}
		return errFound
	})
	switch {
	case errors.Is(err, errFound):
		return found, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		return nil, errPatience
	}
	return nil, err
}

// await waits for the step of an open alert that an act leads to.
func (r *reply) await(ctx context.Context, before *alerts.Alert, a *act) (*known, error) {
	after, err := r.first(ctx, func(x *alerts.Alert) bool {
		return x.AlertID == a.Alert && x.Revision > before.Revision && answers(x, a)
	})
	switch {
	case errors.Is(err, errPatience):
		return nil, fmt.Errorf("it is written, but no step came of it within %s: ebb does not run, is behind, or somebody else was faster; ebb alerts show %s tells how the alert stands", r.patience, a.Alert)
	case err != nil || after.Firing():
		return after, err
	case a.Type != "outcome":
		return nil, fmt.Errorf("alert %s was resolved meanwhile: %s", a.Alert, after.Reason)
	case after.Reason != string(detectors.ClosedByOutcome):
		return nil, fmt.Errorf("alert %s was resolved meanwhile: %s; the outcome counts when precision is measured", a.Alert, after.Reason)
	}
	return after, nil
}

// anew waits for what is told again of the customer, or the subject, of an alert that was closed.
func (r *reply) anew(ctx context.Context, closed *alerts.Alert) (*known, error) {
	subject := func(a *alerts.Alert) string {
		if a.CustomerID != "" || a.Subject == nil {
			return ""
		}
		return a.Detector + "/" + a.Subject.ID
	}
	return r.first(ctx, func(x *alerts.Alert) bool {
		return x.Step == alerts.StepFired.String() && x.CustomerID == closed.CustomerID && subject(x) == subject(closed)
	})
}

// answers reports whether a step may be what an act led to: its own, or the end of the alert.
func answers(x *alerts.Alert, a *act) bool {
	if !x.Firing() {
		return true
	}
	step := alerts.StepChanged
	if a.Type == "acknowledge" {
		step = alerts.StepAcknowledged
	}
	return x.Step == step.String() && x.By == customer.Clip(a.By, customer.MaxActor)
}
