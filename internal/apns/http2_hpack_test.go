package apns

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// FuzzHPACKStatus compares the reading of a response's header block with x/net's decoder at a table size of 0.
func FuzzHPACKStatus(f *testing.F) {
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
	f.Fuzz(func(t *testing.T, block []byte) {
		var scratch hpackScratch
		status, ok := hpackStatus(block, &scratch)
		want, bad := 0, false
		dec := hpack.NewDecoder(0, func(hf hpack.HeaderField) {
			if hf.Name == ":status" {
				n, err := strconv.Atoi(hf.Value)
				if err != nil || n < 100 || n > 999 || len(hf.Value) != 3 {
					bad = true
				}
				want = n
			}
		})
		_, err := dec.Write(block)
		if err == nil {
			err = dec.Close()
		}
		if err != nil || bad {
			// x/net also decodes what is skipped here, so it may refuse more; but what it refuses for :status is refused.
			if bad && err == nil && ok {
				t.Fatalf("%x: %d, want an error", block, status)
			}
			return
		}
		if !ok || status != want {
			t.Fatalf("%x: %d, %v, want %d", block, status, ok, want)
		}
	})
}

// TestHTTP2EncoderTable drives the encoder through changes of everything that it keeps, against x/net's decoder with the same table.
func TestHTTP2EncoderTable(t *testing.T) {
	t.Parallel()
	for _, size := range []uint32{0, 33, 150, 400, 4096, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			e := newHTTP2Encoder("api.push.apple.com")
			e.setTableSize(size)
			dec := hpack.NewDecoder(hpackDefaultTable, nil)
			dec.SetAllowedMaxDynamicTableSize(min(size, hpackDefaultTable))
			for i := range 3000 {
				if i%100 == 0 {
					e.setAuthorization(fmt.Sprint("bearer ", i))
				}
				n := *http2Notification
				n.Key = fmt.Sprint("topic", i/7%40)
				n.CollapseID = fmt.Sprint("collapse", i/13%70)
				for j := range 1 + i%4 {
					block := e.appendBlock(nil, &n, tokenOf(i+j).Address(), i)
					fields, err := dec.DecodeFull(block)
					if err != nil {
						t.Fatal(err)
					}
					got := map[string]string{}
					for _, f := range fields {
						got[f.Name] = f.Value
					}
					want := map[string]string{
						":method": "POST", ":scheme": "https", ":authority": "api.push.apple.com", ":path": "/3/device/" + tokenOf(i+j).String(),
						"authorization": fmt.Sprint("bearer ", i/100*100), "apns-topic": n.Key, "apns-push-type": "alert", "apns-priority": "10",
						"apns-expiration": "0", "content-length": fmt.Sprint(i), "apns-collapse-id": n.CollapseID, "apns-id": ID(n.ID, tokenOf(i+j).Address()).String(),
					}
					if len(fields) != len(want) || fmt.Sprint(got) != fmt.Sprint(want) {
						t.Fatalf("%d: %v, want %v", i, got, want)
					}
					list := 0
					for _, f := range fields {
						list += int(f.Size())
					}
					if e.listSize(&n, tokenOf(i).Address()) < list {
						t.Fatalf("the header list is %d, not %d", list, e.listSize(&n, tokenOf(i).Address()))
					}
					if size >= hpackDefaultTable && j > 2 && len(block) > 150 {
						t.Errorf("the fourth block of a notification has %d bytes", len(block))
					}
				}
			}
		})
	}
}

// TestHTTP2TableSizeUpdates: a table that shrank and grew between two blocks is announced with its smallest and its last size
// (RFC 7541, 4.2); one that did not change is not announced.
func TestHTTP2TableSizeUpdates(t *testing.T) {
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
		e := newHTTP2Encoder("h")
		for _, s := range test.sizes {
			e.setTableSize(s)
		}
		first := e.appendBlock(nil, http2Notification, tokenOf(1).Address(), 0)
		if want := append(test.want, hpackIndexed|hpackMethodPost); !bytes.HasPrefix(first, want) {
			t.Errorf("%v: %x, want %x first", test.sizes, first[:8], want)
		}
		if second := e.appendBlock(nil, http2Notification, tokenOf(1).Address(), 0); second[0] != hpackIndexed|hpackMethodPost {
			t.Errorf("%v: announced again: %x", test.sizes, second[:8])
		}
	}
}
