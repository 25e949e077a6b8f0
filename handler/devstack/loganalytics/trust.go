package loganalytics

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// certificate makes a self-signed certificate for this machine. It also returns it in PEM.
func certificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "local Log Analytics"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// Audience is the audience of tokens for the Logs Ingestion API.
const Audience = "https://monitor.azure.com"

// Tokens makes and checks tokens that look like Entra's, but are signed with a secret of
// this stack.
type Tokens struct{ Secret []byte }

type claims struct {
	Audience string `json:"aud"`
	Expires  int64  `json:"exp"`
}

var encoding = base64.RawURLEncoding

// Make returns a token for a resource. It is valid for d.
func (t Tokens) Make(resource string, d time.Duration) string {
	body, err := json.Marshal(claims{resource, time.Now().Add(d).Unix()})
	if err != nil { // cannot happen: only a string and a number
		return ""
	}
	signed := encoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encoding.EncodeToString(body)
	return signed + "." + encoding.EncodeToString(t.sign(signed))
}

// Check returns an error unless token is valid, was made for Log Analytics and has not
// expired.
func (t Tokens) Check(token string) error {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return errors.New("the token is not a JWT")
	}
	signature, err := encoding.DecodeString(token[i+1:])
	if err != nil || !hmac.Equal(signature, t.sign(token[:i])) {
		return errors.New("the token's signature is wrong")
	}
	_, body, _ := strings.Cut(token[:i], ".")
	raw, err := encoding.DecodeString(body)
	var c claims
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	switch {
	case err != nil:
		return errors.New("the token's claims cannot be parsed")
	case strings.TrimRight(c.Audience, "/") != Audience:
		return fmt.Errorf("the token's audience is %q, not %q", c.Audience, Audience)
	case time.Now().Unix() >= c.Expires:
		return errors.New("the token has expired")
	}
	return nil
}

func (t Tokens) sign(text string) []byte {
	mac := hmac.New(sha256.New, t.Secret)
	_, _ = mac.Write([]byte(text))
	return mac.Sum(nil)
}
