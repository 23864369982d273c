package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Names of the headers that carry what CloudEvents has no word for.
const (
	signatureHeader = "Ebb-Signature" // t=UNIX SECONDS,v1=HEX[,v1=HEX...]
	idHeader        = "Ebb-Event-Id"  // the same for every delivery of one alert step: what to drop repeats by
)

// Reserved says whether a header is ebb's own to set.
func Reserved(name string) bool {
	n := http.CanonicalHeaderKey(name)
	return n == signatureHeader || n == idHeader || n == "Content-Type" || n == "Content-Length" || n == "Host" || strings.HasPrefix(n, "Ce-")
}

type verdict uint8

const (
	accepted verdict = iota
	retry            // the receiver is away, slow or failing: ask again
	refused          // the receiver does not want this record
)

// answer is what came of one request.
type answer struct {
	verdict    verdict
	retryAfter time.Duration // 0: not named
	why        string        // for the log; never holds a body or the URL
}

// post sends one record once.
func (s *Sink) post(ctx context.Context, r *Record) answer {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	req, err := s.request(ctx, r)
	if err != nil {
		return answer{verdict: refused, why: "cannot be made a request: " + cause(err)}
	}
	observe := s.metrics.timer(s.deps.Now)
	resp, err := s.client.Do(req)
	observe()
	if err != nil {
		return answer{verdict: retry, why: cause(err)}
	}
	// a short answer is read to its end, so that the connection can be used again
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
	return s.judge(resp)
}

// cause leaves out what http's errors say of the URL: it may hold a secret.
func cause(err error) string {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return err.Error()
}

func (s *Sink) judge(resp *http.Response) answer {
	a := answer{why: "HTTP " + strconv.Itoa(resp.StatusCode)}
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		a.verdict = accepted
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		a.verdict = retry
		a.retryAfter = retryAfter(resp.Header.Get("Retry-After"), s.deps.Now())
	default:
		a.verdict = refused
	}
	return a
}

// retryAfter reads seconds or an HTTP date (RFC 9110, 10.2.3); anything else is no wish.
func retryAfter(v string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}

// request is the record in CloudEvents' HTTP form, binary mode: the value is the body, a header ce_x becomes ce-x.
func (s *Sink) request(ctx context.Context, r *Record) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(r.Value))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "ebb-webhook")
	for k, v := range s.cfg.Headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, h := range r.Headers {
		switch name, ce := strings.CutPrefix(h.Key, "ce_"); {
		case ce:
			req.Header.Set("ce-"+name, escape(h.Value))
		case h.Key == "content-type" || h.Key == "traceparent":
			req.Header.Set(h.Key, escape(h.Value))
		}
	}
	req.Header.Set(idHeader, s.eventID(r))
	if len(s.cfg.Secrets) > 0 {
		req.Header.Set(signatureHeader, sign(s.cfg.Secrets, s.deps.Now(), r.Value))
	}
	return req, nil
}

// eventID is the CloudEvents id; a record without one is named by its place.
func (s *Sink) eventID(r *Record) string {
	if id := r.header("ce_id"); id != "" {
		return escape([]byte(id))
	}
	return fmt.Sprintf("%d/%d", r.Partition, r.Offset)
}

// sign is t=SECONDS and, for each secret, v1=HEX of HMAC-SHA-256 over "SECONDS.BODY". The time is signed too, so that a
// receiver can refuse what is too old to be a delivery and must be a repetition by somebody else.
func sign(secrets []string, now time.Time, body []byte) string {
	t := strconv.FormatInt(now.Unix(), 10)
	b := append([]byte("t="), t...)
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(t))
		mac.Write([]byte("."))
		mac.Write(body)
		b = append(b, ",v1="...)
		b = hex.AppendEncode(b, mac.Sum(nil))
	}
	return string(b)
}

// escape is the percent-encoding of header values in CloudEvents' HTTP binding (3.1.3.2): all but printable ASCII, and
// the space, the double quote and the percent sign.
func escape(v []byte) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range v {
		if c > ' ' && c < 0x7f && c != '"' && c != '%' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}
