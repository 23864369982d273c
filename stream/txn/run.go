package txn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"ebb/stream/conn"
)

// concurrentWait is the pause after code 51: the markers of the transaction before are still being written, usually for 2 to 3 ms.
const concurrentWait = 2 * time.Millisecond

// missingTries is how often a topic that does not exist is tried again, within about ten seconds. A broker that has just started
// knows of none; one that is asked that often knows.
const missingTries = 16

// run is one pass through the steps of a transaction.
type run struct {
	p    *Producer
	tx   *Transaction
	next map[TopicPartition]int64 // owned by the produce side until both sides have ended

	// network outlives the caller's context by Config.Grace: a request that is under way then is given a while to be answered. Cut off, it might
	// be carried out all the same.
	network context.Context

	failing atomic.Bool // one side has failed for good: the other does not try again
	died    atomic.Bool // the test seam has ended the process, so to speak
}

// newRun begins a pass. The second result ends it.
func (p *Producer) newRun(ctx context.Context, tx *Transaction) (*run, context.CancelFunc) {
	network, cancel := lingering(ctx, p.cfg.Grace)
	return &run{p: p, tx: tx, network: network}, cancel
}

// commit goes through all steps.
func (r *run) commit(ctx context.Context) error {
	// The coordinator counts the timeout from the first request on. What is left of it is for ending the transaction.
	within, cancel := context.WithTimeout(ctx, r.p.cfg.Timeout*3/4)
	defer cancel()
	err := r.content(within)
	switch {
	case r.died.Load():
		return err
	case err == nil && ctx.Err() != nil:
		err = &Error{Step: StepEnd, Err: ctx.Err()}
	}
	if err != nil {
		r.abort(ctx, err)
		return err
	}
	return r.end()
}

// content opens the transaction and fills it. The produce and the offsets go different ways in the broker and side by side.
func (r *run) content(ctx context.Context) error {
	if err := r.step(StepAddPartitions); err != nil {
		return err
	}
	if err := r.addPartitions(ctx); err != nil {
		return err
	}
	if len(r.tx.parts) == 0 {
		return r.commitOffsets(ctx)
	}
	var offsets error
	var wg sync.WaitGroup
	wg.Go(func() { offsets = r.commitOffsets(ctx) })
	produced := r.produce(ctx)
	// Neither side is cut off in the middle of a request: one that arrives after the abort would be of no transaction.
	wg.Wait()
	if r.died.Load() {
		return errors.Join(produced, offsets)
	}
	return worse(produced, offsets)
}

// worse picks the error that decides.
func worse(a, b error) error {
	for _, kind := range []error{ErrFenced, ErrRefused} {
		if errors.Is(a, kind) {
			return a
		}
		if errors.Is(b, kind) {
			return b
		}
	}
	if a != nil {
		return a
	}
	return b
}

// errDied is met by the other side after the test seam ended one.
var errDied = errors.New("txn: ended by a test")

// step passes the test seam.
func (r *run) step(s Step) error {
	if r.died.Load() {
		return errDied
	}
	err := r.p.cfg.Step(s)
	if err != nil {
		r.died.Store(true)
		r.failing.Store(true)
	}
	return err
}

// attempt sends one request until it is answered with success or refused for good. Its error is an *Error.
func (r *run) attempt(ctx context.Context, step Step, target string, send func(ctx context.Context) error) error {
	pauses := newPauses()
	missing := 0
	for {
		err := r.once(send)
		if err == nil {
			return nil
		}
		kind := classify(err)
		if errors.Is(err, conn.ErrTopicMissing) {
			if missing++; missing == missingTries {
				kind = ErrRefused
			}
		}
		switch {
		case r.died.Load():
			return err
		case !errors.Is(kind, errRetry):
			r.failing.Store(true)
			return &Error{Step: step, Target: target, Kind: kind, Err: err}
		case r.failing.Load(), ctx.Err() != nil:
			return r.givenUp(ctx, step, target, err)
		}
		r.p.log.Debug("request of a transaction failed, trying again", "step", step.String(), "err", err)
		if werr := pauses.wait(ctx, err); werr != nil {
			return r.givenUp(ctx, step, target, err)
		}
	}
}

// once gives one attempt its time.
func (r *run) once(send func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(r.network, r.p.cfg.RequestTimeout)
	defer cancel()
	return send(ctx)
}

// givenUp is the error of a request that could have been tried on, had there been time.
func (r *run) givenUp(ctx context.Context, step Step, target string, last error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &Error{Step: step, Target: target, Err: fmt.Errorf("%w (%w)", ctx.Err(), last)}
	}
	return &Error{Step: step, Target: target, Kind: ErrReinit, Err: last}
}

// pauses space out the attempts at one request.
type pauses struct{ trouble, markers conn.Backoff }

func newPauses() *pauses {
	return &pauses{
		trouble: conn.Backoff{Min: 10 * time.Millisecond, Max: time.Second},
		// Half of it at least. It grows, because markers cannot be written as long as the leader of a partition is away.
		markers: conn.Backoff{Min: 2 * concurrentWait, Max: 250 * time.Millisecond},
	}
}

func (p *pauses) wait(ctx context.Context, err error) error {
	if conn.Code(err) == kafka.ConcurrentTransactions {
		return p.markers.Wait(ctx)
	}
	return p.trouble.Wait(ctx)
}

// abort ends a transaction that failed, so that it does not hold up readers until its timeout. Best effort: nothing of it can become
// visible any more in any case.
func (r *run) abort(ctx context.Context, cause error) {
	if errors.Is(cause, ErrFenced) && conn.Code(cause) != kafka.IllegalGeneration && conn.Code(cause) != kafka.UnknownMemberId &&
		conn.Code(cause) != kafka.RebalanceInProgress {
		return // of this producer epoch there is no transaction any more
	}
	if r.step(StepEnd) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.p.cfg.Grace)
	defer cancel()
	r.network = ctx
	r.failing.Store(false)
	if err := r.attempt(ctx, StepEnd, r.p.cfg.TransactionalID, func(ctx context.Context) error { return r.endOnce(ctx, false) }); err != nil {
		r.p.log.Debug("transaction could not be aborted; its timeout or the next Init does", "transactional_id", r.p.cfg.TransactionalID, "err", err)
	}
}

// end asks for the commit until it is answered, or the caller's context has ended for a while.
func (r *run) end() error {
	if err := r.step(StepEnd); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.network, r.p.cfg.Timeout)
	defer cancel()
	pauses := newPauses()
	unanswered := false
	for {
		err := r.once(func(ctx context.Context) error { return r.endOnce(ctx, true) })
		if err == nil {
			return r.step(StepDone)
		}
		kind := classify(err)
		if conn.Code(err) == kafka.Unknown { // an answer, but none that says what became of it
			kind, unanswered = errRetry, true
		}
		switch {
		case errors.Is(kind, errRetry):
			// Only an answer says that the request has not been carried out.
			unanswered = unanswered || conn.Code(err) == 0
		case unanswered && !errors.Is(kind, ErrFenced):
			return r.unknown(err)
		default:
			// Fenced after an unanswered attempt: committed before, or aborted by whoever fenced. Durable state tells, and that is where
			// a task that was fenced goes on from.
			return &Error{Step: StepEnd, Target: r.p.cfg.TransactionalID, Kind: kind, Err: err}
		}
		if ctx.Err() != nil || pauses.wait(ctx, err) != nil {
			return r.unknown(err)
		}
	}
}

func (r *run) unknown(err error) error {
	return &Error{Step: StepEnd, Target: r.p.cfg.TransactionalID, Kind: ErrUnknownOutcome, Err: err}
}

// lingering ends grace after ctx.
func lingering(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-out.Done():
		}
	})
	return out, func() { stop(); cancel() }
}
