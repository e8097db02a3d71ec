package h2

import (
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// What AppendField makes is HPACK, whatever the value's length.
func TestAppendField(t *testing.T) {
	t.Parallel()
	for n := range 700 {
		value := strings.Repeat("v", n)
		fields, err := hpack.NewDecoder(4096, nil).DecodeFull(AppendField(nil, "name", value))
		if err != nil || len(fields) != 1 || fields[0].Name != "name" || fields[0].Value != value {
			t.Fatalf("%d bytes: %v, %v", n, fields, err)
		}
	}
}
