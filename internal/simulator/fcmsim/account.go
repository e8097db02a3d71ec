package fcmsim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"sync"
)

// keyBits is the size of the keys that Google gives out.
const keyBits = 2048

// account is the service account that the simulator knows.
type account struct {
	Email, KeyID string
	key          *rsa.PublicKey
	tokenURI     string
	file         []byte
}

// processKey is the key of the accounts that are given none: one of 2048 bits takes a while to make.
var processKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, keyBits) })

// newAccount makes a service account with the key, or with one of its own.
func newAccount(key *rsa.PrivateKey, tokenURI string) (*account, error) {
	if key == nil {
		var err error
		if key, err = processKey(); err != nil {
			return nil, fmt.Errorf("make the service account's key: %w", err)
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal the service account's key: %w", err)
	}
	hash := sha256.Sum256(x509.MarshalPKCS1PublicKey(&key.PublicKey))
	a := &account{
		Email: "push@" + ProjectID + ".iam.gserviceaccount.com", KeyID: hex.EncodeToString(hash[:20]),
		key: &key.PublicKey, tokenURI: tokenURI,
	}
	a.file, err = json.MarshalIndent(struct { //nolint:gosec // the file is there to give out the key
		Type         string `json:"type"`
		ProjectID    string `json:"project_id"`
		PrivateKeyID string `json:"private_key_id"`
		PrivateKey   string `json:"private_key"`
		ClientEmail  string `json:"client_email"`
		ClientID     string `json:"client_id"`
		AuthURI      string `json:"auth_uri"`
		TokenURI     string `json:"token_uri"`
	}{
		"service_account", ProjectID, a.KeyID, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		a.Email, "100000000000000000001", "https://accounts.google.com/o/oauth2/auth", tokenURI,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("marshal the service account: %w", err)
	}
	return a, nil
}
