package webhook

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// KeyBytes is the size of the key that seals secrets.
const KeyBytes = 32

// ErrNoKey says that this node does not have the cluster's webhook key yet.
var ErrNoKey = errors.New("this node does not have the key for webhook secrets yet")

// Fingerprint names a key without telling it.
func Fingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("pushd webhook key "), key...))
	return hex.EncodeToString(sum[:16])
}

// NewKey makes a key.
func NewKey() []byte {
	key := make([]byte, KeyBytes)
	_, _ = rand.Read(key) // never fails
	return key
}

func sealer(key []byte) (cipher.AEAD, error) {
	if len(key) != KeyBytes {
		return nil, ErrNoKey
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal a secret: %w", err)
	}
	return cipher.NewGCM(block)
}

// seal encrypts a secret's text for the catalog. It is bound to its webhook: it
// can't be moved to another.
func seal(key []byte, webhook, text string) ([]byte, error) {
	gcm, err := sealer(key)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, gcm.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return gcm.Seal(nonce, nonce, []byte(text), []byte(webhook)), nil
}

func unseal(key []byte, webhook string, sealed []byte) (string, error) {
	gcm, err := sealer(key)
	if err != nil {
		return "", err
	}
	if len(sealed) < gcm.NonceSize() {
		return "", errors.New("a sealed secret is damaged")
	}
	text, err := gcm.Open(nil, sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():], []byte(webhook))
	if err != nil {
		return "", fmt.Errorf("open the secret of %s: %w", webhook, err)
	}
	return string(text), nil
}
