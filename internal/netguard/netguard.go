// Package netguard keeps connections out of inner networks: whoever gives the service an address may not have it reach
// what only it can reach.
//
// It knows no protocol and no configuration; who may be reached all the same is for the caller to say.
package netguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// ErrInner is wrapped by the error of a dial to an address that is not the public internet's.
var ErrInner = errors.New("the address is of an inner network")

// innerPrefixes are the IPv4 networks that are not the public internet's: IANA's special-purpose registry
// (https://www.iana.org/assignments/iana-ipv4-special-registry), and multicast.
var innerPrefixes4 = parsePrefixes(
	"0.0.0.0/8",       // this network, unspecified
	"10.0.0.0/8",      // private
	"100.64.0.0/10",   // shared by carriers (CGNAT)
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local: the metadata of cloud machines
	"172.16.0.0/12",   // private
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.31.196.0/24", // AS112
	"192.52.193.0/24", // multicast tunnels (AMT)
	"192.88.99.0/24",  // 6to4 relays, deprecated
	"192.168.0.0/16",  // private
	"192.175.48.0/24", // AS112
	"198.18.0.0/15",   // benchmarking
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, and broadcast
)

// Of IPv6 only global unicast is public (https://www.iana.org/assignments/ipv6-address-space), without these within it
// (https://www.iana.org/assignments/iana-ipv6-special-registry).
var (
	globalUnicast  = netip.MustParsePrefix("2000::/3")
	innerPrefixes6 = parsePrefixes(
		"2001::/23",     // protocol assignments: Teredo, ORCHID, benchmarking
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4: any IPv4 address, a private one too
		"2620:4f:8000::/48",
		"3fff::/20", // documentation
	)
	// nat64 leads to the IPv4 address in its last 32 bits (RFC 6052). Networks that have only IPv6 reach all others by
	// it.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func parsePrefixes(texts ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		prefixes[i] = netip.MustParsePrefix(text)
	}
	return prefixes
}

// Public reports whether the address is one of the public internet. What is unknown is not.
func Public(ip netip.Addr) bool {
	if ip.Zone() != "" {
		return false // a link's own
	}
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	ip = ip.Unmap()
	inner := innerPrefixes4
	if !ip.Is4() {
		if !globalUnicast.Contains(ip) {
			return false
		}
		inner = innerPrefixes6
	}
	for _, p := range inner {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// checkDialled is a net.Dialer's ControlContext: it is asked for each address that a connection is about to be opened
// to, after the name was resolved. So it does not matter what the name resolved to before, or resolves to next.
func checkDialled(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: %s", ErrInner, network)
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil || !Public(at.Addr()) {
		return fmt.Errorf("%w: %s", ErrInner, address)
	}
	return nil
}

// Dialer opens connections to the public internet only, or with inner to any address.
func Dialer(inner bool) *net.Dialer {
	if inner {
		return new(net.Dialer)
	}
	return &net.Dialer{ControlContext: checkDialled}
}
