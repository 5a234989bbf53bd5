package usage

import "io"

// Output is a writer for kingpin, which panics where --help cannot be written, such as to a pipe without a reader. It
// takes everything, and keeps the first error in Err.
type Output struct {
	To  io.Writer
	Err error
}

func (o *Output) Write(b []byte) (int, error) {
	if o.Err == nil {
		_, o.Err = o.To.Write(b)
	}
	return len(b), nil
}
