package funchost

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

var errUnsendable = errors.New("the host's server refuses this answer")

// relay passes an answer on as it comes, each piece at once. The head leaves with the first
// byte of the body, so an answer that breaks off before that byte has not begun.
func (h *Host) relay(i *invocation, a *answer) error {
	header := answerHeader(a.Response)
	_, hasLength := a.Header["Content-Length"]
	switch {
	case a.StatusCode == http.StatusSwitchingProtocols, a.StatusCode == http.StatusNoContent && hasLength:
		return fmt.Errorf("%w: status %d", errUnsendable, a.StatusCode)
	case !isASCII(header):
		return fmt.Errorf("%w: a header is not ASCII", errUnsendable)
	}
	length := a.ContentLength
	if a.StatusCode == http.StatusNotModified && hasLength {
		_, _ = fmt.Sscan(a.Header.Get("Content-Length"), &length)
	}
	_, reason, _ := strings.Cut(a.Status, " ")
	for part := make([]byte, 64<<10); ; {
		n, err := a.Body.Read(part)
		if err != nil && !errors.Is(err, io.EOF) && !i.x.Started() && n == 0 {
			return err
		}
		if !i.x.Started() {
			i.x.Begin(a.StatusCode, reason, header, length)
		}
		if n > 0 {
			i.alive()
			if _, werr := i.x.Write(part[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			i.x.End()
			return nil
		}
		if err != nil {
			return fmt.Errorf("the handler's answer broke off: %w", err)
		}
	}
}
