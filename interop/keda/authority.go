package main

// One authority for all brokers of a run. Go reads SSL_CERT_FILE once in a process, at its first handshake, so every broker
// must show a certificate of an authority that is known before the first of them starts.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// trustVariable is where both Go's and our programs look for authorities.
const trustVariable = "SSL_CERT_FILE"

// certificate is what a broker serves TLS with, and whom its clients must trust. All are PEM files.
type certificate struct {
	chain, key, authority string
}

// newCertificate makes an authority and a certificate for localhost, and makes this process trust the authority and no other.
func newCertificate(folder string) (certificate, error) {
	files := certificate{
		chain:     filepath.Join(folder, "broker.crt"),
		key:       filepath.Join(folder, "broker.key"),
		authority: filepath.Join(folder, "authority.crt"),
	}
	now := time.Now()
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial),
			Subject:      pkix.Name{CommonName: name},
			NotBefore:    now.Add(-time.Hour),
			NotAfter:     now.Add(24 * time.Hour),
		}
	}
	authority := template(1, "interop/keda authority")
	authority.IsCA, authority.BasicConstraintsValid = true, true
	authority.KeyUsage = x509.KeyUsageCertSign
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, err
	}
	leaf := template(2, "localhost")
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leaf.DNSNames = []string{"localhost"}
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, err
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return files, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, leafKey.Public(), authorityKey)
	if err != nil {
		return files, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return files, err
	}
	for _, file := range []struct {
		path, kind string
		der        []byte
	}{
		{files.authority, "CERTIFICATE", authorityDER},
		{files.chain, "CERTIFICATE", leafDER},
		{files.key, "PRIVATE KEY", keyDER},
	} {
		block := pem.EncodeToMemory(&pem.Block{Type: file.kind, Bytes: file.der})
		if err := os.WriteFile(file.path, block, 0o600); err != nil {
			return files, err
		}
	}
	if err := os.Setenv(trustVariable, files.authority); err != nil {
		return files, fmt.Errorf("cannot set %s: %w", trustVariable, err)
	}
	return files, nil
}
