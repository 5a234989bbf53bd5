package collector

import (
	"context"
	"time"

	"twilio_operations_exporter/twilio"
)

// LookUp looks up messages that these operations have lost, the ones that are named as failing, and passes on by
// Refresher.Found what it finds. It is called after a refresh that has succeeded. Its context ends when the next one
// begins.
type LookUp func(ctx context.Context, failing []*twilio.Operation)

// lookUps run a LookUp between refreshes. But for found they belong to the goroutine of Refresher.Run.
type lookUps struct {
	run    LookUp // nil: none
	cancel context.CancelFunc
	ended  chan struct{} // closed when the last one has ended

	some  chan struct{} // of capacity 1: there is something in found
	found []found       // guarded by Refresher.mu
}

// found is what a look-up has found of one operation.
type found struct {
	op       *twilio.Operation
	messages []SampledMessage
	at       time.Time
}

// LookUpLost has Run call f between refreshes. To be called before Run.
func (r *Refresher) LookUpLost(f LookUp) {
	r.lookUps.run = f
	r.metrics.noSampleErrors()
}

// Sampled is what looking up lost messages has found so far.
func (r *Refresher) Sampled() Sampled {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.sampled
}

// Found passes on messages that an operation has lost; none says that none was found.
func (r *Refresher) Found(op *twilio.Operation, messages []SampledMessage) {
	r.mu.Lock()
	r.lookUps.found = append(r.lookUps.found, found{op, messages, time.Now()})
	r.mu.Unlock()
	select {
	case r.lookUps.some <- struct{}{}:
	default:
	}
}

// showFound shows what look-ups have found.
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

// startLookUp begins a look-up, unless the last refresh has failed or the last look-up has not ended yet.
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

// stopLookUp has the look-up under way end. It does not wait for that.
func (r *Refresher) stopLookUp() {
	if r.lookUps.cancel != nil {
		r.lookUps.cancel()
		r.lookUps.cancel = nil
	}
}

// endLookUps has the look-up under way end, and waits for that.
func (r *Refresher) endLookUps() {
	r.stopLookUp()
	<-r.lookUps.ended
}

// failing are the operations that are named as failing.
func (v *view) failing() []*twilio.Operation {
	ops := v.snapshot.Failing
	return ops[:min(len(ops), v.settings.Named)]
}
