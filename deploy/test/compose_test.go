package deploy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// loadCompose is what docker compose config does.
func loadCompose(t *testing.T, env map[string]string) (*types.Project, error) {
	t.Helper()
	return loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir: "..", ConfigFiles: []types.ConfigFile{{Filename: "../compose.yaml"}}, Environment: env,
	})
}

func TestComposeLoads(t *testing.T) {
	t.Parallel()
	p, err := loadCompose(t, map[string]string{"LHSPN_KEY_SHA256": strings.Repeat("0", 64)})
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range p.Services {
		if !s.ReadOnly || len(s.CapDrop) != 1 || s.MemLimit == 0 || s.HealthCheck == nil || s.Restart == "" {
			t.Errorf("%s: the anchor is not merged in: %+v", name, s)
		}
	}
	if len(p.Services) != 5 || len(p.Secrets) != 4 {
		t.Errorf("%d services, %d secrets", len(p.Services), len(p.Secrets))
	}
}

func TestComposeRefusesWithoutTheKey(t *testing.T) {
	t.Parallel()
	if _, err := loadCompose(t, nil); err == nil || !strings.Contains(err.Error(), "scripts/compose-secrets") {
		t.Errorf("loaded: %v", err)
	}
}
