//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"ebb/stream/partition"
)

// prober plays live load and watches how long each partition's customers wait for an alert. Every tenth event opens a critical
// complaint, which both sides must alert on at once, of the partitions in turn; it is resolved two seconds later. The clients
// are those of another library than ebb's.
type prober struct {
	topics
	customers int
	rate      int // events a second
	now       func() time.Time

	writer, reader *kgo.Client
	cancel         context.CancelFunc
	wg             sync.WaitGroup

	tag     string
	seq     int
	waiting []question // to be resolved, oldest first; of the writer

	mu     sync.Mutex
	asked  map[string]*question
	failed error
	twice  int64
}

// topics are the feeds and the alert topic of one prefix.
type topics struct {
	prefix     string
	partitions int
}

// question is a critical complaint and when its alert arrived.
type question struct {
	id, customer string
	partition    int32
	opened, seen time.Time // seen is zero until then
}

func (q *question) took() time.Duration { return q.seen.Sub(q.opened) }

const (
	everyNth   = 10
	resolvedIn = 2 * time.Second
	// served is how long an alert may take for its partition to count as served.
	served = time.Second
)

// probe starts the load, and reads the alerts from where they end now.
func (b *bench) probe(ctx context.Context, t topics) (*prober, error) {
	p := &prober{topics: t, customers: b.many, rate: 1000, now: b.now, asked: map[string]*question{}, tag: strconv.FormatInt(b.now().UnixMilli()%1e9, 36) + "x"}
	ends, _, err := b.endsOf(ctx, t.prefix+"alerts")
	if err != nil {
		return nil, err
	}
	from := map[int32]kgo.Offset{}
	for i := range int32(t.partitions) {
		from[i] = kgo.NewOffset().At(ends[i])
	}
	ctx, p.cancel = context.WithCancel(ctx)
	base := []kgo.Opt{kgo.SeedBrokers(strings.Split(b.brokers, ",")...), kgo.DisableClientMetrics()}
	if p.reader, err = kgo.NewClient(append(base, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.prefix + "alerts": from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMinBytes(1), kgo.FetchMaxWait(time.Second))...); err != nil {
		return nil, err
	}
	if p.writer, err = kgo.NewClient(append(base, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(100_000))...); err != nil {
		p.reader.Close()
		return nil, err
	}
	p.wg.Go(func() { p.watch(ctx) })
	p.wg.Go(func() { p.play(ctx) })
	return p, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends load and reader, and says whether the brokers took all of the load.
func (p *prober) stop() error {
	p.cancel()
	p.wg.Wait()
	flush, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.writer.Flush(flush); err != nil {
		p.fail(err)
	}
	p.writer.Close()
	p.reader.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// play sends events at the rate, each stamped with the moment at which it is sent.
func (p *prober) play(ctx context.Context) {
	random := rand.New(rand.NewPCG(uint64(p.now().UnixNano()), 1))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began := p.now()
	for ctx.Err() == nil {
		for due := int(p.now().Sub(began).Seconds() * float64(p.rate)); p.seq < due; p.seq++ {
			p.next(ctx, random)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (p *prober) next(ctx context.Context, random *rand.Rand) {
	now := p.now()
	if len(p.waiting) > 0 && now.Sub(p.waiting[0].opened) >= resolvedIn {
		q := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.send(ctx, "complaints", q.customer, now, `"type":"resolved","complaint_id":"%s","priority":"critical","subject":"late delivery"`, q.id)
		return
	}
	customer := fmt.Sprintf("c-%06d", random.IntN(p.customers))
	switch {
	case p.seq%everyNth == 0:
		p.ask(ctx, random, now)
	case random.IntN(100) < 13:
		p.send(ctx, "payments", customer, now, `"type":"purchase","amount":%d.%02d,"currency":"EUR"`, 10+random.IntN(70), random.IntN(100))
	default:
		p.send(ctx, "usage", customer, now, `"type":"session","quantity":%d.%d,"unit":"minutes"`, random.IntN(60), 1+random.IntN(9))
	}
}

// ask opens a critical complaint of a customer of the partition whose turn it is.
func (p *prober) ask(ctx context.Context, random *rand.Rand, now time.Time) {
	q := question{id: "T-" + p.tag + strconv.Itoa(p.seq), partition: int32(p.seq / everyNth % p.partitions), opened: now.Truncate(time.Millisecond)}
	for {
		q.customer = fmt.Sprintf("c-%06d", random.IntN(p.customers))
		if partition.Murmur2([]byte(q.customer), int32(p.partitions)) == q.partition {
			break
		}
	}
	p.waiting = append(p.waiting, q)
	p.mu.Lock()
	p.asked[q.id] = &q
	p.mu.Unlock()
	p.send(ctx, "complaints", q.customer, now, `"type":"opened","complaint_id":"%s","priority":"critical","subject":"late delivery"`, q.id)
}

func (p *prober) send(ctx context.Context, feed, customer string, at time.Time, format string, args ...any) {
	value := fmt.Appendf(nil, `{"id":"%c-%s%d","customer_id":"%s","time":"%s",`, feed[0], p.tag, p.seq, customer, at.UTC().Format("2006-01-02T15:04:05.000Z"))
	value = append(fmt.Appendf(value, format, args...), '}')
	p.writer.Produce(context.WithoutCancel(ctx), &kgo.Record{Topic: p.prefix + feed, Key: []byte(customer), Value: value, Timestamp: at}, func(_ *kgo.Record, err error) {
		if err != nil {
			p.fail(fmt.Errorf("the load was not taken: %w", err))
		}
	})
}

func (p *prober) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = cmp.Or(p.failed, err) // the others say the same
}

// watch notes when each alert arrives.
func (p *prober) watch(ctx context.Context) {
	for ctx.Err() == nil {
		found := p.reader.PollFetches(ctx)
		at := p.now()
		found.EachRecord(func(r *kgo.Record) {
			if id := firedFor(r.Value); id != "" {
				p.answered(id, at)
			}
		})
	}
}

func (p *prober) answered(id string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch q := p.asked[id]; {
	case q == nil: // of an earlier load
	case q.seen.IsZero():
		q.seen = at
	default:
		p.twice++
	}
}

// firedFor returns the complaint whose critical alert began with this record, "" if it is another record. The two sides' forms
// differ: the peer has a member state, ebb status and step.
func firedFor(value []byte) string {
	var a struct {
		State, Status, Step string
		Evidence            struct {
			ID       string `json:"complaint_id"`
			Priority string
		}
	}
	if json.Unmarshal(value, &a) != nil || a.Evidence.Priority != "critical" {
		return ""
	}
	if a.State == "firing" || a.Status == "firing" && a.Step == "fired" {
		return a.Evidence.ID
	}
	return ""
}

// questions returns copies of all that was asked.
func (p *prober) questions() []question {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]question, 0, len(p.asked))
	for _, q := range p.asked {
		all = append(all, *q)
	}
	slices.SortFunc(all, func(a, b question) int { return a.opened.Compare(b.opened) })
	return all
}

// await polls until ok, and says after how long a wait it gave up.
func (p *prober) await(ctx context.Context, what string, limit time.Duration, ok func([]question) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !ok(p.questions()) {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("waiting %v until %s: %w; unanswered are %s", limit, what, err, unanswered(p.questions()))
		}
	}
	return nil
}

// unanswered tells for how many questions no alert came, and of which partitions.
func unanswered(all []question) string {
	n, of := 0, map[int32]int{}
	for _, q := range all {
		if q.seen.IsZero() {
			n++
			of[q.partition]++
		}
	}
	return fmt.Sprintf("%d of %d, by partition %v", n, len(all), of)
}

// settle waits until every partition has answered what was asked since a moment, and has been served without a break for as
// long as quiet.
func (p *prober) settle(ctx context.Context, since time.Time, quiet, limit time.Duration) error {
	return p.await(ctx, "alerts of all partitions come at once", limit, func(all []question) bool {
		return !slices.Contains(firstSince(all, p.partitions, since), 0) && calm(all, p.partitions, p.now(), quiet)
	})
}

// calm says whether every partition has been asked for so long, and answered within a second each time.
func calm(all []question, partitions int, now time.Time, quiet time.Duration) bool {
	began := make([]time.Time, partitions) // of the stretch in which every answer came at once
	for _, q := range all {
		switch late := q.took() > served; {
		case q.seen.IsZero() && now.Sub(q.opened) > served:
			return false
		case q.seen.IsZero():
		case late:
			began[q.partition] = time.Time{}
		case began[q.partition].IsZero():
			began[q.partition] = q.seen
		}
	}
	for _, at := range began {
		if at.IsZero() || now.Sub(at) < quiet {
			return false
		}
	}
	return true
}

// finish waits until all that was asked so far is answered, then ends the load, and accounts for it. The load goes on meanwhile,
// because an end of the load helps nobody who stands still under it.
func (p *prober) finish(ctx context.Context) ([]question, delivery, error) {
	all := p.questions()
	last := all[len(all)-1].opened
	err := p.await(ctx, "every alert has arrived", 2*time.Minute, func(now []question) bool {
		all = until(now, last)
		return !slices.ContainsFunc(all, func(q question) bool { return q.seen.IsZero() })
	})
	stopped := p.stop()
	if stopped != nil || ctx.Err() != nil {
		return nil, delivery{}, cmp.Or(stopped, err)
	}
	d := delivery{Duplicates: p.twice}
	for _, q := range all {
		if q.seen.IsZero() {
			d.Missing++
		}
	}
	return all, d, nil
}

func until(all []question, last time.Time) []question {
	n := len(all)
	for n > 0 && all[n-1].opened.After(last) {
		n--
	}
	return all[:n]
}

// firstSince is, for each partition, how long after a moment the first alert of a complaint opened since then arrived.
func firstSince(all []question, partitions int, since time.Time) []time.Duration {
	first := make([]time.Duration, partitions)
	for _, q := range all {
		if q.opened.Before(since) || q.seen.IsZero() {
			continue
		}
		if d := q.seen.Sub(since); first[q.partition] == 0 || d < first[q.partition] {
			first[q.partition] = d
		}
	}
	return first
}

// since leaves out what was opened, and answered, before a disturbance.
func since(all []question, disturbed time.Time) []question {
	return slices.DeleteFunc(slices.Clone(all), func(q question) bool { return q.opened.Before(disturbed.Add(-served)) })
}

// worst is the longest that an alert took, and how many partitions had one that took longer than a second.
func worst(all []question, partitions int) (gap time.Duration, disturbed int) {
	late := make([]bool, partitions)
	for _, q := range all {
		if q.seen.IsZero() {
			continue
		}
		gap = max(gap, q.took())
		late[q.partition] = late[q.partition] || q.took() > served
	}
	for _, l := range late {
		if l {
			disturbed++
		}
	}
	return gap, disturbed
}
