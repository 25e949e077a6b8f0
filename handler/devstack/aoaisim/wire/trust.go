package wire

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"

	"aoaigateway/handler/devstack/devcert"
)

// trust is the certificate of all servers of this process.
type trust struct {
	pair tls.Certificate
	pem  []byte
}

var certificate = sync.OnceValue(func() trust {
	pair, pem, err := devcert.New("simulated regions")
	if err != nil {
		panic(err) // only without a source of random numbers
	}
	return trust{pair, pem}
})

// CA is the certificate that clients must trust, in PEM. Each process has its own.
func CA() []byte { return slices.Clone(certificate().pem) }

// Roots has CA only.
func Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(CA())
	return pool
}
