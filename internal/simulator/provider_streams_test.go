package simulator

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/lhspn/lhspn/internal/push"
)

// rawClient speaks HTTP/2 frame by frame.
type rawClient struct {
	silent bool // it acknowledges no SETTINGS
	t      *testing.T
	conn   *tls.Conn
	framer *http2.Framer
	buf    bytes.Buffer
	enc    *hpack.Encoder
	dec    *hpack.Decoder
}

func newRawClient(t *testing.T, s *Simulator, withCert bool) *rawClient {
	t.Helper()
	config := clientTLS(s, "h2")
	if !withCert {
		config.Certificates = nil
	}
	conn, err := tls.Dial("tcp", s.ProviderAddr(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if conn.ConnectionState().NegotiatedProtocol != "h2" {
		t.Fatal("h2 was not negotiated")
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &rawClient{t: t, conn: conn, framer: http2.NewFramer(conn, conn), dec: hpack.NewDecoder(4096, nil)}
	c.enc = hpack.NewEncoder(&c.buf)
	c.framer.ReadMetaHeaders = c.dec
	c.write([]byte(http2.ClientPreface))
	c.must(c.framer.WriteSettings())
	return c
}

func (c *rawClient) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawClient) write(b []byte) {
	c.t.Helper()
	_, err := c.conn.Write(b)
	c.must(err)
}

func (c *rawClient) headerBlock(token push.Token, more ...string) []byte {
	c.buf.Reset()
	fields := append([]string{":method", "POST", ":scheme", "https", ":path", "/3/device/" + token.String(), ":authority", "localhost", "apns-topic", DefaultTopic}, more...)
	for i := 0; i < len(fields); i += 2 {
		c.must(c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(c.buf.Bytes())
}

func (c *rawClient) request(id uint32, token push.Token, more ...string) {
	c.t.Helper()
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.headerBlock(token, more...), EndHeaders: true}))
	c.must(c.framer.WriteData(id, true, []byte(hello)))
}

// describe makes a frame comparable; it acknowledges SETTINGS like a client.
func (c *rawClient) next() string {
	c.t.Helper()
	f, err := c.framer.ReadFrame()
	if err != nil {
		return "error: " + err.Error()
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return "settings ack"
		}
		n, _ := f.Value(http2.SettingMaxConcurrentStreams)
		if !c.silent {
			c.must(c.framer.WriteSettingsAck())
		}
		return fmt.Sprintf("settings: %d streams", n)
	case *http2.MetaHeadersFrame:
		return fmt.Sprintf("%d: status %s", f.StreamID, f.PseudoValue("status"))
	case *http2.DataFrame:
		return fmt.Sprintf("%d: %s", f.StreamID, f.Data())
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("%d: reset %s", f.StreamID, f.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Sprintf("goaway %d %s %s", f.LastStreamID, f.ErrCode, f.DebugData())
	case *http2.WindowUpdateFrame:
		return fmt.Sprintf("%d: window %d", f.StreamID, f.Increment)
	case *http2.PingFrame:
		return fmt.Sprintf("ping ack %v %s", f.IsAck(), f.Data[:])
	}
	return f.Header().String()
}

func (c *rawClient) expect(want ...string) {
	c.t.Helper()
	for i, w := range want {
		if got := c.next(); got != w {
			c.t.Fatalf("frame %d: got %q, want %q", i, got, w)
		}
	}
}

// connectionUpdate is the WINDOW_UPDATE of a new connection with the default configuration.
const connectionUpdate = "0: window 983041"

func TestProviderOneStreamUntilAValidToken(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", MaxConcurrentStreams: 50})
	c := newRawClient(t, s, false)
	c.expect("settings: 1 streams", connectionUpdate, "settings ack")
	c.request(1, plainToken(1), "authorization", "bearer nonsense")
	c.expect("1: status 403", `1: {"reason":"InvalidProviderToken"}`)
	// Two at once: the second is one too many.
	authorization := "bearer " + signedToken(t, s, nil)
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.headerBlock(plainToken(1), "authorization", authorization), EndHeaders: true}))
	c.request(5, plainToken(2), "authorization", authorization)
	c.expect("5: reset REFUSED_STREAM")
	c.must(c.framer.WriteData(3, true, []byte(hello)))
	c.expect("settings: 50 streams", "3: status 200")
	for id := uint32(7); id < 27; id += 2 {
		c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.headerBlock(plainToken(1), "authorization", authorization), EndHeaders: true}))
	}
	for id := uint32(7); id < 27; id += 2 {
		c.must(c.framer.WriteData(id, true, []byte(hello)))
		c.expect(strconv.Itoa(int(id)) + ": status 200")
	}
	if got := s.Totals(); got.Accepted != 11 || got.Verdicts["stream refused"] != 1 || got.Verdicts["InvalidProviderToken"] != 1 {
		t.Errorf("totals: %+v", got)
	}
}

// The limit of one stream goes with the first success, also where the client acknowledges it later than that.
func TestProviderRaisesTheLimitAfterALateAcknowledgement(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", MaxConcurrentStreams: 50})
	c := newRawClient(t, s, false)
	c.silent = true
	c.expect("settings: 1 streams", connectionUpdate, "settings ack")
	c.request(1, plainToken(1), "authorization", "bearer "+signedToken(t, s, nil))
	c.expect("1: status 200")
	c.must(c.framer.WriteSettingsAck())
	c.expect("settings: 50 streams")
}

func TestProviderDropsToOneStreamAndGrowsAgain(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", MaxConcurrentStreams: 50, Faults: Faults{OneStreamAfter: 2}})
	c := newRawClient(t, s, true)
	c.expect("settings: 50 streams", connectionUpdate, "settings ack")
	c.request(1, plainToken(1))
	c.expect("1: status 200")
	c.request(3, plainToken(1))
	c.request(5, plainToken(1)) // before the new limit is known, which it therefore does not lift again
	c.expect("3: status 200", "settings: 1 streams", "5: status 200")
	c.request(7, plainToken(1))
	c.expect("settings: 50 streams", "7: status 200")
}

func TestProviderStreamFaults(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", Faults: Faults{LateDelay: 30 * time.Millisecond}})
	c := newRawClient(t, s, true)
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
	c.request(1, MagicToken(RefuseOnce, 1))
	c.request(3, MagicToken(RefuseOnce, 1))
	c.request(5, MagicToken(StreamErrorOnce, 1))
	c.request(7, MagicToken(NeverAnswerOnce, 1))
	c.request(9, MagicToken(LateAccept, 1))
	c.request(11, MagicToken(LateInvalidToken, 1))
	c.request(13, MagicToken(StatusFault(8), 1))
	c.expect("1: reset REFUSED_STREAM", "3: status 200", "5: reset INTERNAL_ERROR", "13: status 200")
	c.expect("9: status 200", "11: status 400", `11: {"reason":"BadDeviceToken"}`)
	c.must(c.framer.WriteRSTStream(7, http2.ErrCodeCancel))
	// A stream that was reset is not waited for after a GOAWAY, one that is still open is.
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 15, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true}))
	c.request(17, MagicToken(AcceptThenShutdown, 1))
	c.expect("17: status 200", `goaway 17 NO_ERROR {"reason":"Shutdown"}`)
	c.must(c.framer.WriteData(15, true, []byte(hello)))
	c.expect("15: status 200", "error: EOF")
}

func TestProviderGoAwayKeepsItsPromise(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", Faults: Faults{GoAwayEvery: 2}})
	c := newRawClient(t, s, true)
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
	c.request(1, plainToken(1))
	c.expect("1: status 200")
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.headerBlock(plainToken(3)), EndHeaders: true}))
	c.request(5, plainToken(5))
	c.expect("5: status 200", `goaway 5 NO_ERROR {"reason":"Shutdown"}`)
	c.request(7, plainToken(7)) // above the last stream: never processed
	c.must(c.framer.WriteData(3, true, []byte(hello)))
	c.expect("3: status 200", "error: EOF")
	if got := s.Counts(plainToken(7)); got != (Counts{}) {
		t.Errorf("the stream above the last one was processed: %+v", got)
	}
	if got := s.Totals().Accepted; got != 3 {
		t.Errorf("accepted %d", got)
	}
}

func TestProviderRespectsTheClientsWindows(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0"})
	c := newRawClient(t, s, true)
	c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack", "settings ack")
	c.request(1, MagicToken(InvalidToken, 1))
	c.expect("1: status 400")
	c.request(3, MagicToken(InvalidToken, 1))
	c.must(c.framer.WriteWindowUpdate(3, 100))
	c.request(5, MagicToken(InvalidToken, 1))
	c.expect("3: status 400", `3: {"reason":"BadDeviceToken"}`, "5: status 400")
	c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}))
	c.expect("settings ack", `1: {"reason":"BadDeviceToken"}`, `5: {"reason":"BadDeviceToken"}`)
}

// An answer goes out in pieces as the windows allow, and is one of the open streams until its end.
func TestProviderSendsAnAnswerInPieces(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", MaxConcurrentStreams: 2})
	c := newRawClient(t, s, true)
	c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5}))
	c.expect("settings: 2 streams", connectionUpdate, "settings ack", "settings ack")
	for _, id := range []uint32{1, 3} {
		c.request(id, MagicToken(InvalidToken, 1))
		c.expect(fmt.Sprintf("%d: status 400", id), fmt.Sprintf(`%d: {"rea`, id))
	}
	c.request(5, plainToken(1))
	c.expect("5: reset REFUSED_STREAM")
	// The window of each becomes -3, then 0, and 2.
	c.must(c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 2}))
	c.must(c.framer.WriteWindowUpdate(1, 3))
	c.must(c.framer.WriteWindowUpdate(1, 2))
	c.expect("settings ack", "1: so")
	c.must(c.framer.WriteRSTStream(3, http2.ErrCodeCancel))
	c.request(7, plainToken(1))
	c.expect("7: status 200")
	c.must(c.framer.WriteWindowUpdate(1, 100))
	c.expect(`1: n":"BadDeviceToken"}`)
}

// What the client had sent of a request before it knew that it was refused is passed over; after that it is an error.
func TestProviderPassesOverWhatFollowsARefusal(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0", MaxConcurrentStreams: 1})
	c := newRawClient(t, s, true)
	c.expect("settings: 1 streams", connectionUpdate, "settings ack")
	open := func(id uint32) {
		c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.headerBlock(plainToken(1)), EndHeaders: true}))
	}
	open(1)
	open(3)
	c.expect("3: reset REFUSED_STREAM")
	c.must(c.framer.WriteData(3, false, []byte(hello)))
	c.buf.Reset()
	c.must(c.enc.WriteField(hpack.HeaderField{Name: "x-trailer", Value: "t"}))
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: bytes.Clone(c.buf.Bytes()), EndHeaders: true, EndStream: true}))
	c.must(c.framer.WriteData(1, true, []byte(hello)))
	c.expect("1: status 200")
	c.must(c.framer.WriteData(3, true, nil))
	c.expect("goaway 3 STREAM_CLOSED DATA on a closed stream", "error: EOF")
}

// The client's connection window is 65,535 bytes; an answer of 27 bytes fits 2,427 times.
func TestProviderRespectsTheClientsConnectionWindow(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Provider: "127.0.0.1:0"})
	c := newRawClient(t, s, true)
	c.expect("settings: 1000 streams", connectionUpdate, "settings ack")
	const body = `{"reason":"BadDeviceToken"}`
	id := uint32(1)
	for ; id < 2*(65535/uint32(len(body)))+1; id += 2 {
		c.request(id, MagicToken(InvalidToken, 1))
		c.expect(fmt.Sprintf("%d: status 400", id), fmt.Sprintf("%d: %s", id, body))
	}
	c.request(id, MagicToken(InvalidToken, 1))
	c.must(c.framer.WritePing(false, [8]byte{'p', 'i', 'n', 'g', 'p', 'o', 'n', 'g'}))
	c.expect(fmt.Sprintf("%d: status 400", id), fmt.Sprintf("%d: %s", id, body[:6]), "ping ack true pingpong")
	c.must(c.framer.WriteWindowUpdate(0, 21))
	c.expect(fmt.Sprintf("%d: %s", id, body[6:]))
}
