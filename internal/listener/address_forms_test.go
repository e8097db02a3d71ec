package listener

import (
	"net/netip"
	"testing"
)

// A proxy is known in whichever form it is written.
func TestFormsOfProxies(t *testing.T) {
	t.Parallel()
	for written, address := range map[string]string{
		"::ffff:10.0.0.0/104": "10.1.2.3", "::ffff:192.0.2.7": "192.0.2.7", "fe80::1%eth0": "fe80::1%eth0", "fe80::/10": "fe80::1%eth0",
		"10.0.0.0/8": "10.1.2.3",
	} {
		proxies, err := ParseProxies([]string{written})
		if err != nil || !proxies.Contains(netip.MustParseAddr(address)) || proxies.Contains(netip.MustParseAddr("198.51.100.1")) {
			t.Errorf("%s and %s: %v", written, address, err)
		}
	}
}
