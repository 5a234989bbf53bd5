package collector

import (
	"context"
	"time"

	"twilio_operations_exporter/twilio"
)

// LookUp looks up lost messages of the operations that are named as failing, and passes the results to Refresher.Found.
// It is called after a successful refresh. Its context ends when the next refresh begins.
type LookUp func(ctx context.Context, failing []*twilio.Operation)

// lookUps runs a LookUp between refreshes. Except for found, it belongs to the goroutine of Refresher.Run.
type lookUps struct {
	run    LookUp // nil = none
	cancel context.CancelFunc
	ended  chan struct{} // closed when the last look-up has ended

	some  chan struct{} // has capacity 1: something was added to found
	found []found       // guarded by Refresher.mu
}

// found is the result of looking up messages of one operation.
type found struct {
	op       *twilio.Operation
	messages []SampledMessage
	at       time.Time
}

// LookUpLost makes Run call f between refreshes. It must be called before Run.
func (r *Refresher) LookUpLost(f LookUp) {
	r.lookUps.run = f
	r.metrics.initSampleErrors()
}

// Sampled returns the results of look-ups so far.
func (r *Refresher) Sampled() Sampled {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.sampled
}

// Found passes on lost messages of an operation that were looked up, or none if no message was found.
func (r *Refresher) Found(op *twilio.Operation, messages []SampledMessage) {
	r.mu.Lock()
	r.lookUps.found = append(r.lookUps.found, found{op, messages, time.Now()})
	r.mu.Unlock()

	select {
	case r.lookUps.some <- struct{}{}:
	default:
	}
}

// showFound shows the results that look-ups have passed on.
func (r *Refresher) showFound() {
	r.mu.Lock()
	news := r.lookUps.found
	r.lookUps.found = nil
	r.mu.Unlock()
	if len(news) == 0 {
		return
	}

	next := r.state
	for _, f := range news {
		next.sampled = next.sampled.with(f.op, f.messages, f.at)
	}
	next.sampled = next.sampled.only(r.viewOf(&next).failing(), time.Now())
	r.show(next)
}

// startLookUp starts a look-up, unless the last refresh failed or the last look-up has not ended yet.
func (r *Refresher) startLookUp(ctx context.Context) {
	l := &r.lookUps
	failing := r.view().failing()
	succeeded := r.state.err == nil
	if l.run == nil || len(failing) == 0 || !succeeded {
		return
	}

	select {
	case <-l.ended:
	default:
		return
	}

	ctx, l.cancel = context.WithCancel(ctx)
	ended := make(chan struct{})
	l.ended = ended
	go func() {
		defer close(ended)
		l.run(ctx, failing)
	}()
}

// stopLookUp cancels the look-up under way, without waiting for its end.
func (r *Refresher) stopLookUp() {
	if r.lookUps.cancel != nil {
		r.lookUps.cancel()
		r.lookUps.cancel = nil
	}
}

// endLookUps cancels the look-up under way and waits for its end.
func (r *Refresher) endLookUps() {
	r.stopLookUp()
	<-r.lookUps.ended
}

// failing returns the operations that are named as failing.
func (v *view) failing() []*twilio.Operation {
	ops := v.snapshot.Failing
	return ops[:min(len(ops), v.settings.Named)]
}
