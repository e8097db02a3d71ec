package listener

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are the addresses whose word on the client's address counts.
type Proxies []netip.Prefix

// ParseProxies reads addresses and networks, as 10.0.0.0/8 or ::1.
func ParseProxies(list []string) (Proxies, error) {
	var proxies Proxies
	for _, s := range list {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			address, addressErr := netip.ParseAddr(s)
			if addressErr != nil {
				return nil, fmt.Errorf("%q is neither an address nor a network, like 10.0.0.0/8", s)
			}
			address = address.WithZone("")
			prefix = netip.PrefixFrom(address, address.BitLen())
		}
		if a, bits := prefix.Addr(), prefix.Bits(); a.Is4In6() && bits >= mappedBits { // clients are known by IPv4
			prefix = netip.PrefixFrom(a.Unmap(), bits-mappedBits)
		}
		proxies = append(proxies, prefix.Masked())
	}
	return proxies, nil
}

// mappedBits come before an IPv4 address that is written as IPv6.
const mappedBits = 96

// Contains reports whether the address is a proxy's.
func (p Proxies) Contains(a netip.Addr) bool {
	a = a.WithZone("") // which no prefix contains
	for _, prefix := range p {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// Client is the address of whoever made the request: the connection's, or where that is a trusted proxy's the last one
// of X-Forwarded-For that is not. What comes before it anybody may have written.
func (p Proxies) Client(r *http.Request) netip.Addr {
	client := addressOf(r.RemoteAddr)
	if !p.Contains(client) {
		return client
	}
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(forwarded) - 1; i >= 0; i-- {
		next := addressOf(strings.TrimSpace(forwarded[i]))
		if !next.IsValid() {
			break
		}
		if client = next; !p.Contains(client) {
			break
		}
	}
	return client
}

// Prefix is what limits are counted by: an IPv4 address, or the 64 bits of an IPv6 address that a network is given.
func Prefix(a netip.Addr) netip.Addr {
	if a.Is4() || !a.IsValid() {
		return a
	}
	prefix, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return prefix.Addr()
}

// addressOf reads an address with or without a port; the zero Addr where it is none.
func addressOf(s string) netip.Addr {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// LocalHost lets through only requests whose Host is an address or localhost. A page elsewhere can have its own name
// lead to a service on this machine (DNS rebinding), and the browser then takes that for the page's own server; but the
// Host is that name.
func LocalHost(next http.Handler, refuse http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if host == "localhost" || strings.HasSuffix(host, ".localhost") || host == "" || addressOf(host).IsValid() {
			next.ServeHTTP(w, r)
			return
		}
		refuse.ServeHTTP(w, r)
	})
}

// IsLoopback reports whether nobody but this machine can reach the listener.
func IsLoopback(l net.Listener) bool { return addressOf(l.Addr().String()).IsLoopback() }
