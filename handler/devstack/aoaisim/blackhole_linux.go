package aoaisim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// BlackHole returns an address of this machine that does not answer connection requests
// until end is called. It is a listener with a full queue, whose further SYN packets the
// kernel ignores.
func BlackHole() (address string, end func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	open := []func() error{func() error { return syscall.Close(fd) }}
	end = func() {
		for _, c := range open {
			_ = c()
		}
	}
	if address, err = quietly(fd); err != nil {
		end()
		return "", nil, err
	}
	dialer := net.Dialer{Timeout: 200 * time.Millisecond}
	for range 8 {
		conn, err := dialer.DialContext(context.Background(), "tcp", address)
		if err != nil {
			return address, end, nil
		}
		open = append(open, conn.Close)
	}
	end()
	return "", nil, errors.New("aoaisim: the listener's queue did not become full, so connections to it would succeed")
}

// quietly listens with the shortest possible queue.
func quietly(fd int) (string, error) {
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	if err := syscall.Listen(fd, 0); err != nil {
		return "", err
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		return "", err
	}
	v4, ok := at.(*syscall.SockaddrInet4)
	if !ok {
		return "", fmt.Errorf("aoaisim: the listener has an address of the type %T, not IPv4", at)
	}
	return fmt.Sprintf("127.0.0.1:%d", v4.Port), nil
}
