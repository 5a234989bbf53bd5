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

// outcomes are numbers of messages by what has become of them. No message counts twice.
type outcomes struct {
	delivered, undelivered, failed, canceled int64
	onTheirWay                               int64 // scheduled, queued or sent
}

// outcomesOf returns the outcomes of messages. apart says how reads are counted: see readApart. A message that the API
// calls sent may be on its way or may have arrived, so no more are on their way than have no other outcome.
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

// readApart reports whether the API counts read messages apart from delivered ones, which it does not document. It does
// if all counts of a window together fit into the total.
func readApart(totals *window.Totals) bool {
	s := &totals.Stats
	all := sum(
		s[twilio.Delivered], s[twilio.Read], s[twilio.Undelivered], s[twilio.Failed], s[twilio.Canceled],
		s[twilio.Scheduled], s[twilio.Queued], s[twilio.Sent],
	)
	return all <= s[twilio.Total]
}

// ended is the number of messages delivered or lost.
func (o *outcomes) ended() int64 { return sum(o.delivered, o.undelivered, o.failed) }

func (o *outcomes) all() int64 { return sum(o.ended(), o.canceled, o.onTheirWay) }

func sum(counts ...int64) (total int64) {
	for _, n := range counts {
		total = twilio.AddSaturating(total, n)
	}
	return total
}

// layers are the parts of a bar from bottom to top. Lost messages are at the bottom, where bars can be compared.
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

// picture is a stacked bar chart of messages by the creation time of their operation.
type picture struct {
	ID     string // unique on the page
	Title  string
	End    string // label of its right end
	of     noun
	bars   []outcomes
	start  time.Time     // of the first bar
	length time.Duration // of a bar
}

// newPicture returns a picture of bars of this length; nil if there are no messages.
func newPicture(id, period string, of noun, bars []window.Bar, length time.Duration, apart bool) *picture {
	title := fmt.Sprintf("%s of the last %s, by creation time", of.Title(), period)
	p := &picture{ID: id, Title: title, End: "now", of: of, length: length}
	for i := range bars {
		p.bars = append(p.bars, outcomesOf(&bars[i].Stats, apart))
	}
	if len(bars) == 0 {
		return nil
	}
	p.start = bars[0].Start
	highest, _ := p.highest()
	if highest == 0 {
		return nil
	}
	return p
}

// highest returns the number of messages in the highest bar, and the bar's time.
func (p *picture) highest() (messages int64, at time.Time) { return p.most((*outcomes).all) }

// most returns the greatest number of something in a bar, and the time of the first such bar.
func (p *picture) most(of func(*outcomes) int64) (messages int64, at time.Time) {
	for i := range p.bars {
		n := of(&p.bars[i])
		if n > messages {
			messages = n
			at = p.start.Add(time.Duration(i) * p.length)
		}
	}
	return messages, at
}

// Sizes of a picture. It is as wide as the page, so horizontal lengths are percentages, or bars in the plot.
const (
	barWidth   = 10   // of a bar and the gap to the next, in the coordinates of the plot
	plotHeight = 1000 // in the same coordinates

	plotTop    = 18 // pixels; the highest value is written above
	plotPixels = 120
	axisAt     = plotTop + plotPixels
	tickLength = 4
	labelsAt   = axisAt + 17
	height     = labelsAt + 5
)

// SVG draws the picture. Its style is in landing.css, as the page's policy allows no other.
func (p *picture) SVG() template.HTML {
	highest, at := p.highest()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="picture" role="img" aria-labelledby="%[1]s-title %[1]s-desc" width="100%%" height="%[2]d">`,
		template.HTMLEscapeString(p.ID), height)
	fmt.Fprintf(&b, `<title id="%[1]s-title">%[2]s</title><desc id="%[1]s-desc">%[3]s</desc>`,
		template.HTMLEscapeString(p.ID), template.HTMLEscapeString(p.Title), template.HTMLEscapeString(p.describe()))

	fmt.Fprintf(&b, `<text x="0" y="12">Highest: %s</text>`, p.describeHighest(highest, at))
	fmt.Fprintf(&b, `<line class="grid" x1="0" x2="100%%" y1="%d" y2="%[1]d"/>`, plotTop)
	fmt.Fprintf(&b, `<svg y="%d" width="100%%" height="%d" viewBox="0 0 %d %d" preserveAspectRatio="none">`,
		plotTop, plotPixels, barWidth*len(p.bars), plotHeight)
	p.plot(&b, highest)
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

// describeHighest says how high the highest bar is, and when it was.
func (p *picture) describeHighest(messages int64, at time.Time) string {
	return fmt.Sprintf("%s in %s, at %s", count(messages, string(p.of)), age(p.length), p.when(at))
}

// when formats a time of the picture.
func (p *picture) when(t time.Time) string {
	if p.width() > 2*day {
		return t.UTC().Format("15:04 on Jan 2")
	}
	return t.UTC().Format("15:04")
}

func (p *picture) width() time.Duration { return time.Duration(len(p.bars)) * p.length }

// plot draws the bars, with one path for each layer.
func (p *picture) plot(b *strings.Builder, highest int64) {
	tops := make([]int64, len(p.bars)) // of the layers so far
	for _, layer := range layers {
		var path strings.Builder
		for i := range p.bars {
			n := layer.of(&p.bars[i])
			if n == 0 {
				continue
			}
			bottom := tops[i]
			tops[i] = sum(bottom, n)
			fmt.Fprintf(&path, "M%d %dV%d", barX(i), plotY(bottom, highest), plotY(tops[i], highest))
		}
		if path.Len() > 0 {
			fmt.Fprintf(b, `<path class="%s" d="%s"/>`, layer.class, path.String())
		}
	}
}

// barX returns the horizontal coordinate of the middle of a bar.
func barX(i int) int { return barWidth*i + barWidth/2 }

// plotY returns the vertical coordinate of a number of messages.
func plotY(n, highest int64) int64 {
	return plotHeight - int64(float64(n)/float64(highest)*plotHeight+0.5)
}

// describe describes the picture to those who cannot see it.
func (p *picture) describe() string {
	highest, at := p.highest()
	var all outcomes
	for i := range p.bars {
		all.add(&p.bars[i])
	}
	text := fmt.Sprintf("%d bars of %s each. Highest: %s. %s failed, %s undelivered, %s delivered, %s canceled, %s on their way.",
		len(p.bars), age(p.length), p.describeHighest(highest, at), number(all.failed), number(all.undelivered),
		number(all.delivered), number(all.canceled), number(all.onTheirWay))

	lost, at := p.most((*outcomes).lost)
	if lost > 0 {
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

// tick is a mark on the time axis.
type tick struct {
	at    float64 // percent of the width
	label string  // "" near the ends, where there is no room
}

const (
	maxTicks = 8
	// Labels between these percentages fit into the picture, and do not touch "now" even on a phone.
	firstLabel, lastLabel = 5, 87
)

// tickSteps are the distances between ticks.
var tickSteps = []time.Duration{
	time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 7 * day,
}

// ticks returns the marks on the time axis, at round times. There are no more than fit on a phone.
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

// sparkBars is roughly the number of bars of a spark.
const sparkBars = 32

// Spark draws a picture of the size of a word: all messages, and on top of them the lost ones.
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
	highest, _ := small.highest()

	var all, lost strings.Builder
	draw := func(path *strings.Builder, i int, n int64) {
		if n > 0 {
			fmt.Fprintf(path, "M%d %dV%d", barX(i), plotHeight, plotY(n, highest))
		}
	}
	for i := range bars {
		draw(&all, i, bars[i].all())
		draw(&lost, i, bars[i].lost())
	}

	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="spark" aria-hidden="true" viewBox="0 0 %d %d" preserveAspectRatio="none">`,
		barWidth*len(bars), plotHeight)
	fmt.Fprintf(&b, `<path class="delivered" d="%s"/><path class="failed" d="%s"/></svg>`, all.String(), lost.String())
	return template.HTML(b.String()) //nolint:gosec // G203: numbers
}
