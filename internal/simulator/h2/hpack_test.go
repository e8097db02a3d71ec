package h2

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"
)

// testNames knows two headers, one of which is in the static table.
var testNames = NewNames(func(name []byte) Header {
	switch string(name) {
	case "apns-id":
		return FirstHeader
	case "authorization":
		return FirstHeader + 1
	}
	return HeaderOther
})

type field struct{ Name, Value string }

// decodeBoth decodes blocks with our decoder and with hpack's.
func decodeBoth(blocks [][]byte) (ours, theirs []field, ourErr, theirErr error) {
	d := newHeaderDecoder(testNames, func(_ Header, name, value []byte) { ours = append(ours, field{string(name), string(value)}) })
	oracle := hpack.NewDecoder(headerTableSize, func(f hpack.HeaderField) { theirs = append(theirs, field{f.Name, f.Value}) })
	for _, b := range blocks {
		if ourErr == nil {
			ourErr = d.decode(b)
		}
		if theirErr == nil {
			if _, theirErr = oracle.Write(b); theirErr == nil {
				theirErr = oracle.Close()
			}
		}
	}
	return ours, theirs, ourErr, theirErr
}

// randomBlocks encodes many header lists as x/net's clients do, with a table that overflows and changes its size.
func randomBlocks(r *rand.Rand) [][]byte {
	var buf bytes.Buffer
	e := hpack.NewEncoder(&buf)
	names := []string{":path", ":method", ":status", "apns-id", "apns-topic", "authorization", "x-long", "accept", "cookie"}
	var blocks [][]byte
	for range 200 {
		buf.Reset()
		fields := r.IntN(6)
		// Two size updates at once are allowed, but not by the oracle.
		if fields > 0 && r.IntN(20) == 0 {
			e.SetMaxDynamicTableSize(uint32(r.IntN(headerTableSize + 1)))
		}
		for range fields {
			value := strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(300))
			if r.IntN(2) == 0 {
				b := make([]byte, r.IntN(40))
				for i := range b {
					b[i] = byte(' ' + r.IntN(256-' '))
					if r.IntN(20) > 0 {
						b[i] %= 128
					}
				}
				value = string(b)
			}
			_ = e.WriteField(hpack.HeaderField{Name: names[r.IntN(len(names))], Value: value, Sensitive: r.IntN(4) == 0})
		}
		blocks = append(blocks, bytes.Clone(buf.Bytes()))
	}
	return blocks
}

func TestHeaderDecoderAgainstTheOracle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		ours, theirs, ourErr, theirErr := decodeBoth(randomBlocks(rand.New(rand.NewPCG(seed, 0))))
		if ourErr != nil || theirErr != nil {
			t.Fatalf("seed %d: %v, oracle %v", seed, ourErr, theirErr)
		}
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

func TestHeaderDecoderKnowsTheServicesHeaders(t *testing.T) {
	t.Parallel()
	var got []Header
	d := newHeaderDecoder(testNames, func(h Header, _, _ []byte) { got = append(got, h) })
	var buf bytes.Buffer
	e := hpack.NewEncoder(&buf)
	names := []string{"x", ":method", ":path", ":scheme", "authorization", "apns-id"}
	for range 2 { // as a literal, and from the table
		for _, name := range names {
			_ = e.WriteField(hpack.HeaderField{Name: name, Value: "v"})
		}
	}
	if err := d.decode(buf.Bytes()); err != nil {
		t.Fatal(err)
	}
	want := []Header{HeaderOther, HeaderMethod, HeaderPath, HeaderScheme, FirstHeader + 1, FirstHeader}
	if diff := cmp.Diff(append(want, want...), got); diff != "" {
		t.Error(diff)
	}
}

// FuzzHeaderDecoder: what the oracle takes we take alike, and what it refuses we refuse, but for our own limits.
func FuzzHeaderDecoder(f *testing.F) {
	for _, b := range randomBlocks(rand.New(rand.NewPCG(1, 1)))[:20] {
		f.Add(b, b)
	}
	f.Add([]byte{0x3f, 0xe1, 0x1f, 0x82}, []byte{0x20, 0x82})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a)+len(b) > 4096 {
			t.Skip()
		}
		ours, theirs, ourErr, theirErr := decodeBoth([][]byte{a, b})
		// On size updates the oracle is both stricter (one only) and laxer (anywhere, while the table is empty).
		if errors.Is(ourErr, errHeaderTooLong) || errors.Is(ourErr, errSizeUpdate) ||
			theirErr != nil && strings.Contains(theirErr.Error(), "size update") {
			return
		}
		if (ourErr == nil) != (theirErr == nil) {
			t.Fatalf("ours: %v, oracle: %v", ourErr, theirErr)
		}
		if ourErr == nil {
			if diff := cmp.Diff(theirs, ours); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
