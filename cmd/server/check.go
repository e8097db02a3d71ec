package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lhspn/lhspn/internal/apns/credentials"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/listener"
)

// expiresSoon is how long before its end a certificate is worth a warning: Apple's last a year, and a new one takes a
// person some days.
const expiresSoon = 30 * 24 * time.Hour

// checkCertificates looks into the client certificates that were read: one that is for other topics than the app's is
// refused by APNs with every notification, which nothing else says before the first one.
func checkCertificates(cfg *config.Config, now time.Time) (warnings []error, err error) {
	var errs []error
	nowhere := credentials.NewMetrics(prometheus.NewRegistry())
	for i := range cfg.Apps {
		app := &cfg.Apps[i]
		if !app.APNs.Given() {
			continue
		}
		at := "apps[" + strconv.Itoa(i) + "].apns"
		seen := map[string]bool{}
		for _, route := range app.APNs.Routes() {
			c := app.APNs.Of(route)
			if c.CertificateFile == "" || seen[c.CertificateFile] {
				continue
			}
			seen[c.CertificateFile] = true
			password, _ := config.ReadSecret(c.CertificatePassword) // without it the next has a fault
			file, err := credentials.LoadCertificateFile(app.Name, c.CertificateFile, password, nowhere)
			if err != nil {
				continue // it is told by those who use it
			}
			if left := file.Expiry().Sub(now); left < expiresSoon {
				warnings = append(warnings, cfg.At(at, fmt.Errorf("%s expires in %d days, on %s", c.CertificateFile,
					int(left.Hours()/24), file.Expiry().UTC().Format(time.RFC3339))))
			}
			if topics := file.Topics(); len(topics) > 0 && !slices.Contains(topics, c.Topic) {
				errs = append(errs, cfg.At(at, fmt.Errorf("topic is %s, and %s is for %s: APNs refuses each notification",
					c.Topic, c.CertificateFile, strings.Join(topics, ", "))))
			}
		}
	}
	return warnings, errors.Join(errs...)
}

// notRenewed is how long before its end a certificate of the listener should have been renewed by what does so.
const notRenewed = 3 * 24 * time.Hour

// checkOwnCertificate looks into the certificate of listen.
func checkOwnCertificate(cfg *config.Config, now time.Time) (warnings []error, err error) {
	if cfg.TLSCertificateFile == "" {
		return nil, nil
	}
	c, err := listener.LoadCertificate(cfg.TLSCertificateFile, cfg.TLSKeyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, cfg.At("tls_certificate_file", err)
	}
	end := c.Expiry().UTC().Format(time.RFC3339)
	switch left := c.Expiry().Sub(now); {
	case left <= 0:
		return nil, cfg.At("tls_certificate_file", fmt.Errorf("%s expired on %s", cfg.TLSCertificateFile, end))
	case left < notRenewed:
		return []error{cfg.At("tls_certificate_file", fmt.Errorf("%s expires on %s", cfg.TLSCertificateFile, end))}, nil
	}
	return nil, nil
}

// keylessApps warns of apps that nobody can call the API for.
func keylessApps(cfg *config.Config) (warnings []error) {
	for i := range cfg.Apps {
		if len(cfg.Apps[i].Keys) == 0 {
			warnings = append(warnings, cfg.At("apps["+strconv.Itoa(i)+"]", fmt.Errorf(
				"app %s has no keys, so no request is let in: server keygen makes one", cfg.Apps[i].Name)))
		}
	}
	return warnings
}
