package simulator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lhspn/lhspn/internal/push"
	"github.com/lhspn/lhspn/internal/simulator/fcmsim"
	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/webpushsim"
)

// service is a push service that is a package of its own.
type service interface {
	Run(ctx context.Context) error
	Close()
	Reset()
	Recorder() *record.Recorder
}

// services are those that are served, by the name of their platform.
func (s *Simulator) services() map[string]service {
	served := map[string]service{}
	if s.fcm != nil {
		served[fcmsim.Platform] = s.fcm
	}
	if s.webPush != nil {
		served[webpushsim.Platform] = s.webPush
	}
	return served
}

// FCM is the stand-in for FCM; nil where it is not served.
func (s *Simulator) FCM() *fcmsim.Simulator { return s.fcm }

// WebPush is the stand-in for a push service of browsers; nil where it is not served.
func (s *Simulator) WebPush() *webpushsim.Simulator { return s.webPush }

// openServices opens the services that are packages of their own.
func (s *Simulator) openServices() error {
	if s.cfg.FCM.Address != "" {
		if err := s.openFCM(); err != nil {
			return err
		}
	}
	if s.cfg.WebPush.Address != "" {
		return s.openWebPush()
	}
	return nil
}

func (s *Simulator) openFCM() error {
	cfg := s.cfg.FCM
	cfg.Record, cfg.Recent = s.kept(cfg.Record, cfg.Recent)
	var err error
	if cfg.Key == nil && s.cfg.CredentialsDir != "" {
		if cfg.Key, err = readServiceAccountKey(s.cfg.CredentialsDir); err != nil {
			return err
		}
	}
	if s.fcm, err = fcmsim.New(cfg, s.server, s.log); err != nil {
		return fmt.Errorf("FCM: %w", err)
	}
	if s.cfg.CredentialsDir != "" {
		return s.writeServiceAccount(s.cfg.CredentialsDir)
	}
	return nil
}

func (s *Simulator) openWebPush() error {
	cfg := s.cfg.WebPush
	cfg.Record, cfg.Recent = s.kept(cfg.Record, cfg.Recent)
	var err error
	if cfg.Seed == nil && s.cfg.CredentialsDir != "" {
		if cfg.Seed, err = keepSeed(s.cfg.CredentialsDir); err != nil {
			return err
		}
	}
	if s.webPush, err = webpushsim.New(cfg, s.server, s.log); err != nil {
		return fmt.Errorf("the Web Push service: %w", err)
	}
	return nil
}

// kept is how much a service keeps: what its own configuration says, or ours.
func (s *Simulator) kept(level record.Level, recent int) (record.Level, int) {
	if level == record.All {
		level = s.cfg.Record
	}
	if recent == 0 {
		recent = s.cfg.Recent
	}
	return level, recent
}

// keepSeed reads what an earlier run made browsers' subscriptions from, or makes and writes it.
func keepSeed(dir string) ([]byte, error) {
	file := filepath.Join(dir, seedFile)
	seed, err := os.ReadFile(file) //nolint:gosec // whoever runs the simulator names the folder
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			err = fmt.Errorf("read the seed of subscriptions: %w", err)
		}
		return seed, err
	}
	seed = make([]byte, webpushsim.SeedLen)
	_, _ = rand.Read(seed) // it does not fail
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		return nil, fmt.Errorf("write the seed of subscriptions: %w", err)
	}
	return seed, nil
}

// recorders are those of all services.
func (s *Simulator) recorders() []*record.Recorder {
	list := []*record.Recorder{s.recorder}
	for _, other := range s.services() {
		list = append(list, other.Recorder())
	}
	return list
}

// recorderOf is that of the token's service; nil where it is not served.
func (s *Simulator) recorderOf(token push.Token) *record.Recorder {
	if token.Platform() == "" {
		return s.recorder
	}
	if other := s.services()[token.Platform()]; other != nil {
		return other.Recorder()
	}
	return nil
}
