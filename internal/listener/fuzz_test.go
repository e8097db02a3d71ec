package listener

import (
	"net/http"
	"testing"
)

// Whatever a client claims of where it comes from, an address that can be counted comes of it, and no panic.
func FuzzForwarded(f *testing.F) {
	proxies, err := ParseProxies([]string{"10.0.0.0/8", "::1"})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", "192.0.2.1", "192.0.2.1, 10.0.0.2", "[2001:db8::1]:80", "unknown, , 10.0.0.1", "fe80::1%eth0", "::ffff:192.0.2.1"} {
		f.Add("10.0.0.1:1", seed)
	}
	f.Fuzz(func(t *testing.T, remote, forwarded string) {
		r := &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": {forwarded}}}
		client := proxies.Client(r)
		if of := addressOf(remote); of.IsValid() && (!client.IsValid() || !proxies.Contains(of) && client != of.Unmap()) {
			t.Errorf("%q with %q is %v", remote, forwarded, client)
		}
		Prefix(client)
	})
}

// What net/http answers by itself is told from everything else.
func FuzzRefusal(f *testing.F) {
	f.Add([]byte("HTTP/1.1 400 Bad Request: malformed Host header" + refusalHeaders + "400 Bad Request"))
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if status, _, is := refusal(b); is && status < 400 {
			t.Errorf("%q has the status %d", b, status)
		}
	})
}

// A write may begin anywhere in a body, so also with what a client had stored.
func TestABodyIsNoRefusal(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`HTTP/1.1 417 ", "tags": ["x"]}`, `HTTP/1.1 417 Expectation Failed"}` + "\r\n", `HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"`,
	} {
		if status, _, is := refusal([]byte(body)); is {
			t.Errorf("%q is taken for a %d", body, status)
		}
	}
	if status, _, is := refusal([]byte("HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\n")); !is || status != 417 {
		t.Error("net/http's own answer is not known")
	}
}
