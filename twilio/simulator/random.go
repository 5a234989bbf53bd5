package simulator

import "math"

// random is a splitmix64 generator. Seeding one takes only nanoseconds, which matters if each of a million operations
// has its own.
type random uint64

func newRandom(seed uint64, stream ...uint64) random {
	h := mix(seed + golden)
	for _, s := range stream {
		h = mix(h ^ mix(s+golden))
	}
	return random(h)
}

const golden = 0x9e3779b97f4a7c15

func mix(z uint64) uint64 {
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

func (r *random) next() uint64 {
	*r += golden
	return mix(uint64(*r))
}

// float returns a number from the uniform distribution over [0, 1).
func (r *random) float() float64 {
	return float64(r.next()>>11) / (1 << 53)
}

// logBetween returns a number from the log-uniform distribution over [low, high]. low must be above 0.
func (r *random) logBetween(low, high int64) int64 {
	ratio := float64(high+1) / float64(low)
	n := float64(low) * math.Exp(r.float()*math.Log(ratio))
	return min(high, int64(n))
}

// poisson returns a number from the Poisson distribution with this mean.
func (r *random) poisson(mean float64) int {
	if mean > 60 {
		// The normal distribution is close enough, and needs only two draws.
		u := 1 - r.float()
		z := math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*r.float())
		return max(0, int(math.Round(mean+math.Sqrt(mean)*z)))
	}

	limit := math.Exp(-mean)
	n := 0
	for p := r.float(); p > limit; p *= r.float() {
		n++
	}
	return n
}
