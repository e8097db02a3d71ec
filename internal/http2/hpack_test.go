package http2

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// FuzzAnswerBlock compares the reading of an answer's header block with x/net's decoder at a table size of 0.
func FuzzAnswerBlock(f *testing.F) {
	for _, status := range []string{"200", "400", "403", "404", "410", "413", "429", "500", "503"} {
		for _, size := range []uint32{0, 4096} {
			var b bytes.Buffer
			enc := hpack.NewEncoder(&b)
			enc.SetMaxDynamicTableSizeLimit(size)
			_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: status, Sensitive: size > 0})
			_ = enc.WriteField(hpack.HeaderField{Name: "apns-id", Value: "eabeae54-14a8-11e5-b60b-1697f925ec7b"})
			_ = enc.WriteField(hpack.HeaderField{Name: "content-type", Value: "application/json", Sensitive: true})
			f.Add(b.Bytes())
		}
		f.Add(append(append([]byte{0x20, 0x00, 7}, ":status"...), append([]byte{3}, status...)...))
		coded := hpack.AppendHuffmanString(nil, ":status")
		f.Add(append(append([]byte{0x10, 0x80 | byte(len(coded))}, coded...), append([]byte{3}, status...)...))
	}
	f.Add([]byte{0x80})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x08, 0x03, '2', '0'})
	f.Add([]byte{0x3f, 0xe1, 0x1f})
	r := newBlockReader([]string{"apns-id", "retry-after"})
	f.Fuzz(func(t *testing.T, block []byte) {
		valid, ok := r.read(block, false)
		if again, okAgain := r.read(block, false); again != valid || okAgain != ok { // by the names that are expected now
			t.Fatalf("%x: valid %t, read %t, and the second time %t, %t", block, valid, ok, again, okAgain)
		}
		status, bad := 0, false
		wanted := map[string]string{}
		regular := false
		dec := hpack.NewDecoder(0, func(hf hpack.HeaderField) {
			switch {
			case hf.Name == ":status":
				n, err := strconv.Atoi(hf.Value)
				if err != nil || n < 100 || n > 999 || len(hf.Value) != 3 || status != 0 || regular {
					bad = true
				}
				status = n
			case hf.Name == "" || strings.ContainsFunc(hf.Name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r >= 'A' && r <= 'Z' || r == ':' }):
				bad = true
			default:
				regular = true
				if _, twice := wanted[hf.Name]; !twice {
					wanted[hf.Name] = hf.Value
				}
			}
		})
		_, err := dec.Write(block)
		if err == nil {
			err = dec.Close()
		}
		if err != nil {
			return // x/net also decodes what is skipped here, so it may refuse more
		}
		if bad && ok && valid {
			t.Fatalf("%x: accepted", block)
		}
		if !valid || !ok {
			return
		}
		if r.status != status {
			t.Fatalf("%x: %d, want %d", block, r.status, status)
		}
		for i, name := range []string{"apns-id", "retry-after"} {
			if got := string(r.values[i]); got != wanted[name] {
				t.Fatalf("%x: %s is %q, want %q", block, name, got, wanted[name])
			}
		}
	})
}

// TestUsualFields: answers with the same fields are read without looking their names up, and as strictly.
func TestUsualFields(t *testing.T) {
	t.Parallel()
	block := func(coded bool, fields ...string) []byte {
		b := []byte{hpackIndexed | 8}
		for i := 0; i < len(fields); i += 2 {
			b = append(b, hpackWithout)
			if name := fields[i]; coded {
				text := hpack.AppendHuffmanString(nil, name)
				b = append(append(b, 0x80|byte(len(text))), text...)
			} else {
				b = appendHPACKString(b, name)
			}
			b = appendHPACKString(b, fields[i+1])
		}
		return b
	}
	for _, coded := range []bool{false, true} {
		r := newBlockReader([]string{"retry-after"})
		for i, test := range []struct {
			block  []byte
			valid  bool
			wanted string
		}{
			{block(coded, "a", "1", "b-name", "2", "c", ""), true, ""},
			{block(coded, "a", "1", "b-name", "2", "c", ""), true, ""},
			{block(coded, "a", "1\n", "b-name", "2"), false, ""},
			{block(coded, "a", "1", "b-name", " 2"), false, ""},
			{block(coded, "b-name", "2", "a", "1"), true, ""},
			{block(coded, "a", "1", "connection", "close"), false, ""},
			{block(coded, "a", "1", "retry-after", "7", "b-name", "2"), true, "7"},
			{block(coded, "a", "1", "retry-after", "7\x00", "b-name", "2"), false, ""},
			{block(coded, "a", "1", "B-Name", "2"), false, ""},
			{block(coded, "a", "1", "b-name", strings.Repeat("x", 300), "c", "3"), true, ""},
			{block(coded, "a", "1", "b-name", "2", "c", "3"), true, ""},
		} {
			valid, ok := r.read(test.block, false)
			if !ok || valid != test.valid || valid && string(r.values[0]) != test.wanted {
				t.Errorf("coded %t, block %d: valid %t, read %t, %q", coded, i, valid, ok, r.values)
			}
			if len(test.block) > 20 {
				if valid, ok := r.read(test.block[:len(test.block)-1], false); ok && valid {
					t.Errorf("coded %t, block %d without its last byte is read", coded, i)
				}
			}
		}
	}
}

// blockOf is the header block of request i of a batch.
func blockOf(h *Header, b *batch, i int) []byte {
	h.begin(nil, 1)
	length, _ := b.Header(i, h)
	return h.end(length)[frameHeaderLen:]
}

// TestHeader drives the encoder through changes of everything that it keeps, against x/net's decoder with the same
// table.
func TestHeader(t *testing.T) {
	t.Parallel()
	for _, size := range []uint32{0, 33, 150, 400, 4096, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			h := newHeader("api.push.apple.com", testFields)
			h.table.resize(size)
			dec := hpack.NewDecoder(hpackDefaultTable, nil)
			dec.SetAllowedMaxDynamicTableSize(min(size, hpackDefaultTable))
			for i := range 3000 {
				n := &note{
					topic: fmt.Sprint("topic", i/7%40), collapse: fmt.Sprint("collapse", i/13%70), number: uint64(i / 5 % 30), body: strings.Repeat("x", i),
				}
				b := &batch{note: n, auth: fmt.Sprint("bearer ", i/100*100), from: i}
				for j := range 1 + i%4 {
					block := blockOf(h, b, j)
					fields, err := dec.DecodeFull(block)
					if err != nil {
						t.Fatal(err)
					}
					got := map[string]string{}
					for _, f := range fields {
						got[f.Name] = f.Value
					}
					digits := strings.Repeat("aa", 28) + fmt.Sprintf("%08x", i+j)
					want := map[string]string{
						":method": "POST", ":scheme": "https", ":authority": "api.push.apple.com", ":path": "/3/device/" + digits,
						"authorization": b.auth, "apns-topic": n.topic, "apns-expiration": fmt.Sprint(n.number), "content-length": fmt.Sprint(i),
						"apns-collapse-id": n.collapse, "apns-id": digits[32:],
					}
					if len(fields) != len(want) || fmt.Sprint(got) != fmt.Sprint(want) {
						t.Fatalf("%d: %v, want %v", i, got, want)
					}
					list := 0
					for _, f := range fields {
						list += int(f.Size())
					}
					if h.size < list || h.size > list+10 { // the digits of the content-length
						t.Fatalf("the header list is %d, not %d", list, h.size)
					}
					if size >= hpackDefaultTable && j > 2 && len(block) > 150 {
						t.Errorf("the fourth block of a batch has %d bytes", len(block))
					}
				}
				if i%50 == 0 { // a request that is taken back when its header was begun
					h.begin(nil, 1)
					h.Path("/never")
					h.undo()
				}
			}
		})
	}
}

// TestHeaderPath: a path that all requests have costs one byte from the second on, and so does a field's value that
// comes back.
func TestHeaderPath(t *testing.T) {
	t.Parallel()
	h := newHeader("fcm.googleapis.com", []Field{{"authorization", Always}})
	lengths := make([]int, 0, 4)
	for _, auth := range []string{"Bearer a", "Bearer a", "Bearer b", "Bearer a"} {
		h.begin(nil, 1)
		h.Path("/v1/projects/p/messages:send")
		h.Add(0, auth)
		lengths = append(lengths, len(h.end(100))-frameHeaderLen)
	}
	const indexed = 5 + 6 // method, scheme, authority, path, authorization; content-length
	if lengths[1] != indexed || lengths[2] != indexed+1+len("Bearer b") || lengths[3] != indexed {
		t.Errorf("blocks of %v bytes", lengths)
	}
}

// TestTableSizeUpdates: a table that shrank and grew between two blocks is announced with its smallest and its last
// size (RFC 7541, 4.2); one that did not change is not announced.
func TestTableSizeUpdates(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sizes []uint32
		want  []byte
	}{
		{nil, nil},
		{[]uint32{4096, 1 << 20}, nil},
		{[]uint32{0}, []byte{0x20}},
		{[]uint32{0, 4096}, []byte{0x20, 0x3f, 0xe1, 0x1f}},
		{[]uint32{100, 20, 30}, []byte{0x20 | 20, 0x20 | 30}},
	} {
		h := newHeader("h", testFields)
		for _, s := range test.sizes {
			h.table.resize(s)
		}
		b := &batch{note: testNote}
		first := blockOf(h, b, 0)
		if want := append(test.want, hpackIndexed|hpackMethodPost); !bytes.HasPrefix(first, want) {
			t.Errorf("%v: %x, want %x first", test.sizes, first[:8], want)
		}
		if second := blockOf(h, b, 0); second[0] != hpackIndexed|hpackMethodPost {
			t.Errorf("%v: announced again: %x", test.sizes, second[:8])
		}
	}
}
