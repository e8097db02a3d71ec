package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
	"github.com/lhspn/lhspn/internal/webpush"
)

// Device is one of the devices of an app on three platforms.
type Device struct {
	Platform string
	Token    push.Token
	Line     []byte // of the import
}

// AddPlatforms has the server's app configured for FCM and Web Push beside APNs, at the simulator.
func (c *ServerConfig) AddPlatforms(sim *simulator.Simulator) error {
	key, _, err := webpush.GenerateVAPID()
	if err != nil {
		return err
	}
	file := filepath.Join(c.Dir, c.Name+"vapid.pem")
	if err := os.WriteFile(file, key, 0o600); err != nil {
		return fmt.Errorf("write the VAPID key: %w", err)
	}
	c.AppExtra += fmt.Sprintf(`    fcm: {service_account_file: %[1]q, gateway: %[2]q, ca_file: %[3]q, max_rate: 10000000}
    webpush: {vapid_key_file: %[4]q, subject: "mailto:bench@example.com", allowed_origins: [%[5]q], ca_file: %[3]q}
`, filepath.Join(c.Credentials, "service-account.json"), sim.FCM().Addr(), filepath.Join(c.Credentials, "ca.pem"),
		file, sim.WebPush().Origin())
	return nil
}

// Devices makes n devices: of each ten six iPhones, three Android phones and a browser, which subscribes with the
// server's key.
func (s *Server) Devices(ctx context.Context, sim *simulator.Simulator, n int) ([]Device, error) {
	var key struct {
		PublicKey string `json:"public_key"`
	}
	if err := s.Call(ctx, "GET", "/v1/webpush/key", nil, nil, &key); err != nil {
		return nil, err
	}
	list := make([]Device, n)
	for i := range list {
		d := &list[i]
		switch i % 10 {
		case 9:
			s, err := sim.WebPush().Subscribe(key.PublicKey, webpushsim.NoFault)
			if err != nil {
				return nil, fmt.Errorf("subscribe: %w", err)
			}
			text, err := json.Marshal(s)
			if err != nil {
				return nil, fmt.Errorf("marshal a subscription: %w", err)
			}
			d.Platform, d.Token = "webpush", s.Token()
			d.Line = fmt.Appendf(nil, `{"platform":"webpush","subscription":%s}`, text)
			continue
		case 2, 5, 8:
			d.Platform, d.Token = "fcm", push.TextToken("fcm", fmt.Sprintf("phone-%d:APA91b", i))
		default:
			d.Platform, d.Token = "apns", Token(i)
		}
		d.Line = fmt.Appendf(nil, `{"token":%q}`, d.Token.String())
	}
	return list, nil
}

// Share is how many of the devices are of the platform.
func Share(devices []Device, platform string) (n int) {
	for i := range devices {
		if devices[i].Platform == platform {
			n++
		}
	}
	return n
}
