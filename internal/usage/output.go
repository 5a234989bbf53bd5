package usage

import "io"

// Output is a writer for kingpin, which panics if it cannot write the help, such as to a closed pipe. Its Write never
// fails; the first error is in Err.
type Output struct {
	To  io.Writer
	Err error
}

// Write implements io.Writer.
func (o *Output) Write(b []byte) (int, error) {
	if o.Err == nil {
		_, o.Err = o.To.Write(b)
	}
	return len(b), nil
}
