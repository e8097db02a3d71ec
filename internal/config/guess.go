package config

import (
	"regexp"
	"strings"
)

// obvious are the words of examples and those that come to mind first, with what is put between and behind them.
var obvious = regexp.MustCompile(`(?i)change|me|it|pass|word|secret|example|sample|default|admin|root|user|test|dev|demo|` +
	`api|app|key|token|your|my|the|here|this|a|foo|bar|hello|world|lhspn|push|webhook|hmac|jwt|[^a-z]`)

// fewBytes is less than 24 random bytes have that differ, but for once in many millions.
const fewBytes = 12

// isGuessed reports whether somebody would guess a secret of bytes: it says nothing but words of examples, or the same
// few over and over.
func isGuessed(secret string) bool {
	if obvious.ReplaceAllString(secret, "") == "" && isText(secret) {
		return true
	}
	different := map[byte]bool{}
	for i := range len(secret) {
		different[secret[i]] = true
	}
	return len(different) < fewBytes
}

func isText(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// guessedKeys are API keys that examples have, and those that come to mind first, in small letters.
var guessedKeys = []string{
	"", "password", "change-me", "changeme", "change_me", "changeit", "secret", "key", "your-key", "your_key", "yourkey",
	"api-key", "api_key", "apikey", "token", "admin", "root", "test", "example", "default", "dev", "demo", "lhspn",
	"hedgehog", "register", "send", "operator", "mobile", "backend", "app", "ios", "android", "web", "server", "push",
	"...", "xxx", "123456", "12345678", "123456789", "qwerty", "letmein",
}

// guessedHashes are those of guessedKeys, as they are usually written.
var guessedHashes = func() map[Hash]bool {
	hashes := map[Hash]bool{}
	for _, key := range guessedKeys {
		first := min(1, len(key))
		for _, written := range []string{key, strings.ToUpper(key), strings.ToUpper(key[:first]) + key[first:]} {
			hashes[HashKey(written)] = true
		}
	}
	return hashes
}()

// CheckKey says what is wrong with a key of that hash: the keys of examples are refused.
func CheckKey(hash Hash) (wrong string) {
	if guessedHashes[hash] {
		return "is the hash of a key that anybody would guess: make one with server keygen"
	}
	return ""
}
