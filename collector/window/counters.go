package window

import "twilio_operations_exporter/twilio"

// publish moves the counters by what each minute's sums exceed their peak. At the first publication the peaks are set
// and nothing is counted.
func (w *Window) publish() {
	for i := range w.buckets {
		b := &w.buckets[i]
		if b.operations() > 0 {
			w.newest = max(w.newest, w.first+minute(i))
		}
		if b.get().peak != nil {
			w.count(b, w.published && !b.baseline)
		}
		b.baseline = false
	}
	w.published = true
}

func (w *Window) count(b *bucket, counts bool) {
	settled := b.settled()
	total := settled
	for _, op := range b.inFlight {
		total.add(&op.Stats)
	}
	reached := max(0, total.reached-b.peak.reached)
	b.peak.reached += reached
	for stat, now := range total.Stats {
		excess := max(0, now-b.peak.Stats[stat])
		b.peak.Stats[stat] += excess

		// The growth of delivered alone would miss what was read between two refreshes.
		if twilio.Stat(stat) == twilio.Delivered && w.readReplacesDelivered && !w.readKeepsDelivered {
			excess = reached
		}
		if counts {
			w.grown[stat] = twilio.AddSaturating(w.grown[stat], excess)
		}
	}

	if b.inFlight == nil && *b.peak == settled {
		b.peak = nil
	}
	if b.peak == nil && len(b.done) == 0 {
		b.contents = nil
	}
}
