package http2

import (
	"strings"
	"testing"
)

func TestValuesOfFields(t *testing.T) {
	t.Parallel()
	for length := range 20 {
		text := strings.Repeat("é~ !", 5)[:length] + "x"
		for at := range length {
			for c := range 256 {
				v := []byte(text)
				v[0], v[at] = 'x', byte(c)
				want := c != 0 && c != '\r' && c != '\n' && (at > 0 || c != ' ' && c != '\t')
				if validValue(v) != want {
					t.Fatalf("%q: %v", v, !want)
				}
			}
		}
	}
	if !validValue(nil) || validValue([]byte("x ")) || validValue([]byte("x\t")) || validValue([]byte("\t")) {
		t.Error("nothing is a value, and what ends with space is none")
	}
}
