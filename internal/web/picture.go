package web

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

// outcomes are what has become of messages. Each message that has got one is in exactly one of them.
type outcomes struct {
	delivered, undelivered, failed, canceled int64
	onTheirWay                               int64 // scheduled, queued or sent
}

// outcomesOf sorts the messages of stats; apart says whether those that were read are counted apart from those
// delivered, see readApart. What the API calls sent may be on its way, or may have arrived since: no more messages are on
// their way than are left.
func outcomesOf(s *twilio.Stats, apart bool) outcomes {
	o := outcomes{
		delivered:   max(s[twilio.Delivered], s[twilio.Read]),
		undelivered: s[twilio.Undelivered],
		failed:      s[twilio.Failed],
		canceled:    s[twilio.Canceled],
	}
	if apart {
		o.delivered = sum(s[twilio.Delivered], s[twilio.Read])
	}
	left := max(0, s[twilio.Total]-o.all())
	o.onTheirWay = min(left, sum(s[twilio.Scheduled], s[twilio.Queued], s[twilio.Sent]))
	return o
}

// readApart tells from the sums of a window whether a message that is read is no longer counted as delivered, which the
// API does not document: then all there is fits into the total.
func readApart(totals *window.Totals) bool {
	s := &totals.Stats
	all := sum(
		s[twilio.Delivered], s[twilio.Read], s[twilio.Undelivered], s[twilio.Failed], s[twilio.Canceled],
		s[twilio.Scheduled], s[twilio.Queued], s[twilio.Sent],
	)
	return all <= s[twilio.Total]
}

// ended is how many messages were delivered, or lost.
func (o *outcomes) ended() int64 { return sum(o.delivered, o.undelivered, o.failed) }

func (o *outcomes) all() int64 { return sum(o.ended(), o.canceled, o.onTheirWay) }

func sum(counts ...int64) (total int64) {
	for _, n := range counts {
		total = twilio.AddSaturating(total, n)
	}
	return total
}

// layers are the parts of a bar, from the axis up: what is lost stands on the axis, where bars can be compared.
var layers = []struct {
	class string // in the style sheet
	of    func(o *outcomes) int64
}{
	{"failed", func(o *outcomes) int64 { return o.failed }},
	{"undelivered", func(o *outcomes) int64 { return o.undelivered }},
	{"delivered", func(o *outcomes) int64 { return o.delivered }},
	{"canceled", func(o *outcomes) int64 { return o.canceled }},
	{"way", func(o *outcomes) int64 { return o.onTheirWay }},
}

// picture is a stacked bar chart of messages by the time of their operation's creation.
type picture struct {
	ID     string // unique on the page
	Title  string // what it is of
	End    string // what stands below its right end
	of     noun
	bars   []outcomes
	start  time.Time     // of the first bar
	length time.Duration // of a bar
}

// newPicture returns the picture of a period's bars, which are each so long; nil where there are no messages.
func newPicture(id, period string, of noun, bars []window.Bar, length time.Duration, apart bool) *picture {
	title := fmt.Sprintf("%s of the last %s, by creation time", of.Title(), period)
	p := &picture{ID: id, Title: title, End: "now", of: of, length: length}
	for i := range bars {
		p.bars = append(p.bars, outcomesOf(&bars[i].Stats, apart))
	}
	if greatest, _ := p.greatest(); greatest == 0 {
		return nil
	}
	p.start = bars[0].Start
	return p
}

// greatest is the highest bar.
func (p *picture) greatest() (messages int64, at time.Time) {
	for i := range p.bars {
		if all := p.bars[i].all(); all > messages {
			messages = all
			at = p.start.Add(time.Duration(i) * p.length)
		}
	}
	return messages, at
}

// Sizes of a picture. Lengths from left to right are in parts of its width, which is that of the page.
const (
	barWidth   = 10   // of a bar and the gap to the next, in the coordinates of the plot
	plotHeight = 1000 // in the same

	plotTop    = 18 // pixels; above it is the greatest value
	plotPixels = 120
	axisAt     = plotTop + plotPixels
	tickLength = 4
	labelsAt   = axisAt + 17
	height     = labelsAt + 5
)

// SVG draws the picture. It has no style of its own: that is in landing.css, which the page's policy admits.
func (p *picture) SVG() template.HTML {
	greatest, at := p.greatest()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="picture" role="img" aria-labelledby="%[1]s-title %[1]s-desc" width="100%%" height="%[2]d">`,
		template.HTMLEscapeString(p.ID), height)
	fmt.Fprintf(&b, `<title id="%[1]s-title">%[2]s</title><desc id="%[1]s-desc">%[3]s</desc>`,
		template.HTMLEscapeString(p.ID), template.HTMLEscapeString(p.Title), template.HTMLEscapeString(p.describe()))

	fmt.Fprintf(&b, `<text x="0" y="12">Highest: %s</text>`, p.most(greatest, at))
	fmt.Fprintf(&b, `<line class="grid" x1="0" x2="100%%" y1="%d" y2="%[1]d"/>`, plotTop)
	fmt.Fprintf(&b, `<svg y="%d" width="100%%" height="%d" viewBox="0 0 %d %d" preserveAspectRatio="none">`,
		plotTop, plotPixels, barWidth*len(p.bars), plotHeight)
	p.plot(&b, greatest)
	b.WriteString(`</svg>`)

	fmt.Fprintf(&b, `<line class="axis" x1="0" x2="100%%" y1="%d" y2="%[1]d"/>`, axisAt)
	for _, t := range p.ticks() {
		fmt.Fprintf(&b, `<line class="axis" x1="%.1f%%" x2="%.1[1]f%%" y1="%d" y2="%d"/>`, t.at, axisAt, axisAt+tickLength)
		if t.label != "" {
			fmt.Fprintf(&b, `<text x="%.1f%%" y="%d" text-anchor="middle">%s</text>`, t.at, labelsAt, t.label)
		}
	}
	fmt.Fprintf(&b, `<text x="100%%" y="%d" text-anchor="end">%s</text></svg>`, labelsAt, p.End)
	return template.HTML(b.String()) //nolint:gosec // G203: numbers, and text that was escaped
}

// most says what the line at the top of a picture stands for.
func (p *picture) most(messages int64, at time.Time) string {
	return fmt.Sprintf("%s in %s, at %s", count(messages, string(p.of)), age(p.length), p.when(at))
}

// when writes a time of the picture.
func (p *picture) when(t time.Time) string {
	if p.width() > 2*day {
		return t.UTC().Format("15:04 on Jan 2")
	}
	return t.UTC().Format("15:04")
}

func (p *picture) width() time.Duration { return time.Duration(len(p.bars)) * p.length }

// plot draws the bars, a path for each layer.
func (p *picture) plot(b *strings.Builder, greatest int64) {
	floors := make([]int64, len(p.bars))
	for _, layer := range layers {
		var path strings.Builder
		for i := range p.bars {
			if n := layer.of(&p.bars[i]); n > 0 {
				bottom := floors[i]
				floors[i] = sum(bottom, n)
				fmt.Fprintf(&path, "M%d %dV%d", barWidth*i+barWidth/2, up(bottom, greatest), up(floors[i], greatest))
			}
		}
		if path.Len() > 0 {
			fmt.Fprintf(b, `<path class="%s" d="%s"/>`, layer.class, path.String())
		}
	}
}

// up is where a number of messages ends in a plot whose height is the greatest.
func up(n, greatest int64) int64 {
	return plotHeight - int64(float64(n)/float64(greatest)*plotHeight+0.5)
}

// describe says what is to be seen, to those who cannot.
func (p *picture) describe() string {
	greatest, at := p.greatest()
	var all outcomes
	for i := range p.bars {
		all.add(&p.bars[i])
	}
	text := fmt.Sprintf("%d bars of %s each. Highest: %s. %s failed, %s undelivered, %s delivered, %s canceled, %s on their way.",
		len(p.bars), age(p.length), p.most(greatest, at), number(all.failed), number(all.undelivered),
		number(all.delivered), number(all.canceled), number(all.onTheirWay))

	worst := slices.IndexFunc(p.bars, func(o outcomes) bool { return o.lost() == p.mostLost() })
	if lost := p.bars[worst].lost(); lost > 0 {
		at := p.start.Add(time.Duration(worst) * p.length)
		text += fmt.Sprintf(" Most failed or undelivered at %s: %s.", p.when(at), number(lost))
	}
	return text
}

func (o *outcomes) lost() int64 { return sum(o.failed, o.undelivered) }

func (o *outcomes) add(other *outcomes) {
	o.delivered = sum(o.delivered, other.delivered)
	o.undelivered = sum(o.undelivered, other.undelivered)
	o.failed = sum(o.failed, other.failed)
	o.canceled = sum(o.canceled, other.canceled)
	o.onTheirWay = sum(o.onTheirWay, other.onTheirWay)
}

func (p *picture) mostLost() (most int64) {
	for i := range p.bars {
		most = max(most, p.bars[i].lost())
	}
	return most
}

// tick is a mark on the axis of time.
type tick struct {
	at    float64 // percent of the width
	label string  // "" near the ends, where there is no room
}

const (
	maxTicks = 8
	// Labels between these percentages neither leave the picture nor meet "now" on a telephone.
	firstLabel, lastLabel = 5, 87
)

// tickSteps are the distances between ticks.
var tickSteps = []time.Duration{
	time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 7 * day,
}

// ticks are the marks on the axis of time: as many as a telephone has room for, at full hours or days.
func (p *picture) ticks() (ticks []tick) {
	width := p.width()
	i := slices.IndexFunc(tickSteps, func(step time.Duration) bool { return width/step < maxTicks })
	step := tickSteps[max(0, i)]

	for t := p.start.Truncate(step); t.Before(p.start.Add(width)); t = t.Add(step) {
		at := 100 * float64(t.Sub(p.start)) / float64(width)
		if at <= 0 {
			continue
		}
		label := ""
		if at >= firstLabel && at <= lastLabel {
			label = t.UTC().Format("15:04")
			if t.Truncate(day).Equal(t) {
				label = t.UTC().Format("Jan 2")
			}
		}
		ticks = append(ticks, tick{at, label})
	}
	return ticks
}

// sparkBars is about how many bars a spark has.
const sparkBars = 32

// Spark draws the picture the size of a word: all messages, and over them those that are lost.
func (p *picture) Spark() template.HTML {
	each := (len(p.bars)-1)/sparkBars + 1
	var bars []outcomes
	for i := range p.bars {
		if i%each == 0 {
			bars = append(bars, outcomes{})
		}
		bars[len(bars)-1].add(&p.bars[i])
	}
	small := picture{bars: bars}
	greatest, _ := small.greatest()

	var all, lost strings.Builder
	for i := range bars {
		x := barWidth*i + barWidth/2
		if n := bars[i].all(); n > 0 {
			fmt.Fprintf(&all, "M%d %dV%d", x, plotHeight, up(n, greatest))
		}
		if n := bars[i].lost(); n > 0 {
			fmt.Fprintf(&lost, "M%d %dV%d", x, plotHeight, up(n, greatest))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="spark" aria-hidden="true" viewBox="0 0 %d %d" preserveAspectRatio="none">`,
		barWidth*len(bars), plotHeight)
	fmt.Fprintf(&b, `<path class="delivered" d="%s"/><path class="failed" d="%s"/></svg>`, all.String(), lost.String())
	return template.HTML(b.String()) //nolint:gosec // G203: numbers
}
