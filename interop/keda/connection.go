package main

// Connection strings, taken apart and changed the way that rows need them.

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"time"
)

const (
	hour = time.Hour
	// deadEndpoint is a port of loopback that nobody serves.
	deadEndpoint = "sb://localhost:1"
)

// part gives a part of a connection string, or "".
func part(connectionString, key string) string {
	for _, pair := range strings.Split(connectionString, ";") {
		if found, value, _ := strings.Cut(pair, "="); found == key {
			return value
		}
	}
	return ""
}

// withPart changes a part of a connection string; an empty value takes it out.
func withPart(connectionString, key, value string) string {
	var parts []string
	for _, pair := range strings.Split(connectionString, ";") {
		found, _, _ := strings.Cut(pair, "=")
		switch {
		case found != key:
			parts = append(parts, pair)
		case value != "":
			parts = append(parts, key+"="+value)
		}
	}
	return strings.Join(parts, ";")
}

// signedFor replaces the key by a token that it signed, valid for that long from now (Microsoft's documentation, "Service Bus
// access control with Shared Access Signatures").
func signedFor(validity time.Duration) func(string) string {
	return func(connectionString string) string {
		endpoint := part(connectionString, "Endpoint")
		resource := url.QueryEscape(strings.ToLower(strings.Replace(endpoint, "sb://", "https://", 1)))
		expiry := time.Now().Add(validity).Unix()
		mac := hmac.New(sha256.New, []byte(part(connectionString, "SharedAccessKey")))
		fmt.Fprintf(mac, "%s\n%d", resource, expiry)
		signature := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		token := fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%d&skn=%s",
			resource, signature, expiry, part(connectionString, "SharedAccessKeyName"))
		return fmt.Sprintf("Endpoint=%s;SharedAccessSignature=%s", endpoint, token)
	}
}
