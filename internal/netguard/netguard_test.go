package netguard

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestGuardRefusesInnerNetworks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		address string
		public  bool
	}{
		{"127.0.0.1", false},
		{"127.255.255.254", false},
		{"0.0.0.0", false},
		{"0.1.2.3", false},
		{"10.0.0.1", false},
		{"10.255.255.255", false},
		{"100.64.0.1", false},
		{"100.127.255.255", false},
		{"100.100.100.200", false}, // a cloud's metadata
		{"169.254.169.254", false}, // the others'
		{"172.16.0.1", false},
		{"172.31.255.255", false},
		{"192.168.0.1", false},
		{"192.0.0.8", false},
		{"192.0.2.1", false},
		{"192.88.99.1", false},
		{"198.18.0.1", false},
		{"198.19.255.255", false},
		{"198.51.100.7", false},
		{"203.0.113.7", false},
		{"224.0.0.1", false},
		{"239.255.255.250", false},
		{"240.0.0.1", false},
		{"255.255.255.255", false},
		{"::", false},
		{"::1", false},
		{"::127.0.0.1", false}, // IPv4-compatible
		{"::8.8.8.8", false},
		{"::ffff:127.0.0.1", false}, // IPv4-mapped
		{"::ffff:10.0.0.1", false},
		{"::ffff:a9fe:a9fe", false},
		{"::ffff:0:127.0.0.1", false}, // IPv4-translated
		{"64:ff9b::127.0.0.1", false}, // NAT64
		{"64:ff9b::10.0.0.1", false},
		{"64:ff9b::169.254.169.254", false},
		{"64:ff9b:1::8.8.8.8", false}, // NAT64 of the network's own
		{"100::1", false},             // discard
		{"2001::1", false},            // Teredo
		{"2001:0:4136:e378:8000:63bf:3fff:fdd2", false},
		{"2001:2::1", false},  // benchmarking
		{"2001:10::1", false}, // ORCHID
		{"2001:20::1", false}, // ORCHIDv2
		{"2001:db8::1", false},
		{"2002:7f00:1::1", false}, // 6to4 of 127.0.0.1
		{"2002:808:808::1", false},
		{"3fff::1", false},
		{"4000::1", false}, // of nobody yet
		{"5f00::1", false}, // segment routing
		{"fc00::1", false},
		{"fd00:ec2::254", false}, // metadata again
		{"fe80::1", false},
		{"fe80::1%eth0", false},
		{"2606:4700::1111%eth0", false},
		{"fec0::1", false}, // site-local, deprecated
		{"ff02::1", false},

		{"8.8.8.8", true},
		{"1.1.1.1", true},
		{"11.0.0.1", true},
		{"100.63.255.255", true},
		{"100.128.0.1", true},
		{"126.255.255.255", true},
		{"128.0.0.1", true},
		{"169.253.255.255", true},
		{"172.15.255.255", true},
		{"172.32.0.1", true},
		{"192.167.255.255", true},
		{"198.17.255.255", true},
		{"198.20.0.1", true},
		{"223.255.255.255", true},
		{"::ffff:8.8.8.8", true},
		{"64:ff9b::8.8.8.8", true},
		{"2001:200::1", true},
		{"2606:4700::1111", true},
		{"2a00:1450:4001::200a", true},
	} {
		ip := netip.MustParseAddr(test.address)
		if got := Public(ip); got != test.public {
			t.Errorf("%s: public is %t", test.address, got)
		}
		network := "tcp6"
		if ip.Is4() {
			network = "tcp4"
		}
		err := checkDialled(t.Context(), network, net.JoinHostPort(test.address, "443"), nil)
		if test.public != (err == nil) {
			t.Errorf("%s is dialled with the error %v", test.address, err)
		}
	}
	if err := checkDialled(t.Context(), "unix", "/run/docker.sock", nil); err == nil {
		t.Error("a socket is dialled")
	}
}

// TestGuardRefusesRebinding has a name that is public when it is looked at, and an inner address when it is dialled.
func TestGuardRefusesRebinding(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var connected atomic.Bool
	go func() {
		if nc, err := listener.Accept(); err == nil {
			connected.Store(true)
			nc.Close()
		}
	}()
	port := netip.MustParseAddrPort(listener.Addr().String()).Port()

	resolver := rebinding([4]byte{8, 8, 8, 8}, [4]byte{127, 0, 0, 1})
	first, err := resolver.LookupNetIP(t.Context(), "ip4", "push.example.com")
	if err != nil || len(first) != 1 || !Public(first[0]) {
		t.Fatalf("the name resolves to %v first, %v", first, err)
	}
	d := Dialer(false)
	d.Resolver = resolver
	at := net.JoinHostPort("push.example.com", strconv.Itoa(int(port)))
	if _, err := d.DialContext(t.Context(), "tcp4", at); !errors.Is(err, ErrInner) {
		t.Errorf("dialling ends with %v", err)
	}
	if connected.Load() {
		t.Error("the inner server was reached")
	}

	// What the operator names may be there.
	d = Dialer(true)
	d.Resolver = resolver
	nc, err := d.DialContext(t.Context(), "tcp4", at)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

// rebinding answers the first question for a name with the first address, and all further ones with the second.
func rebinding(first, then [4]byte) *net.Resolver {
	var asked atomic.Bool
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe() // no packets: the resolver talks to it as over TCP
		go func() {
			defer server.Close()
			address := first
			if asked.Swap(true) {
				address = then
			}
			var length [2]byte
			if _, err := io.ReadFull(server, length[:]); err != nil {
				return
			}
			question := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(server, question); err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(question) != nil {
				return
			}
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AResource{A: address},
			}}
			answer, err := m.AppendPack([]byte{0, 0})
			if err != nil {
				return
			}
			binary.BigEndian.PutUint16(answer, uint16(len(answer)-2))
			_, _ = server.Write(answer)
		}()
		return client, nil
	}}
}
