package main

import (
	"errors"
	"fmt"

	"github.com/lhspn/lhspn/internal/api"
	"github.com/lhspn/lhspn/internal/config"
	"github.com/lhspn/lhspn/internal/inline"
)

// tryProofs says what is wrong with the keys of the apps' users' proofs.
func tryProofs(apps []config.App) error {
	var errs []error
	for i := range apps {
		if _, err := userTokens(&apps[i].UserTokens); err != nil {
			errs = append(errs, fmt.Errorf("app %s: user_tokens: %w", apps[i].Name, err))
		}
	}
	return errors.Join(errs...)
}

// userTokens reads the keys that users' proofs are checked with; nil where there are none.
func userTokens(c *config.UserTokens) (*api.UserTokens, error) {
	if !c.Given() {
		return nil, nil
	}
	var keys []api.UserTokenKey
	if c.JWKSFile != "" {
		text, err := inline.Read(c.JWKSFile)
		if err != nil {
			return nil, fmt.Errorf("jwks_file: %w", err)
		}
		if keys, err = api.ParseJWKS(text); err != nil {
			return nil, fmt.Errorf("jwks_file %s: %w", inline.Name(c.JWKSFile), err)
		}
	}
	for _, k := range c.Keys {
		key := api.UserTokenKey{Algorithm: "HS256", Key: []byte(k.Secret)}
		if k.PublicKeyFile != "" {
			text, err := inline.Read(k.PublicKeyFile)
			if err != nil {
				return nil, fmt.Errorf("public_key_file: %w", err)
			}
			if key, err = api.ParsePublicKey(text); err != nil {
				return nil, fmt.Errorf("public_key_file %s: %w", inline.Name(k.PublicKeyFile), err)
			}
		}
		key.ID = k.ID
		keys = append(keys, key)
	}
	return api.NewUserTokens(keys, c.Issuer, c.Audience, c.MaxAge)
}
