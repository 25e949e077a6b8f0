package loganalytics

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

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
