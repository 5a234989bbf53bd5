// Package browser looks at the exporter's landing page as people do: in a
// browser. It is a module of its own, so that the exporter needs none.
package browser
