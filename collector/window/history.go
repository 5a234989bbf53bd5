package window

import (
	"iter"
	"time"
)

// Minutes goes through the minutes of the window up to a time, oldest first: the start of each, and the sums of the
// operations created in it.
func (s State) Minutes(until time.Time) iter.Seq2[time.Time, Totals] {
	return func(yield func(time.Time, Totals) bool) {
		last := minuteOf(until)
		for m, b := range s.each(span{s.first, last + 1}) {
			if !yield(m.time(), b.totals()) {
				return
			}
		}
	}
}
