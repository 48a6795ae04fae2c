package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// PathLead is where members ask one another about who leads. This package does not look into it:
// see ServerConfig.Lead.
const PathLead = "/v1/lead/"

// ErrRefuses is returned for a question that a member does not answer.
var ErrRefuses = errors.New("the member refuses to answer")

// maxExchange bounds a question and an answer.
const maxExchange = 1 << 20

// Exchange sends in to a path below PathLead, as JSON, and reads the answer into out. It keeps its
// connection. The error of a member that refuses to answer has its text.
func (c *Client) Exchange(ctx context.Context, path string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return c.asked(fmt.Errorf("encode the question: %w", err))
	}
	res, err := c.doWith(ctx, c.reports, exchange{http.MethodPost, PathLead + path, http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(text)})
	if err != nil {
		return c.asked(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxExchange))
	if err != nil {
		return c.asked(fmt.Errorf("%w: read the answer: %w", ErrProtocol, err))
	}
	if res.StatusCode != http.StatusOK {
		return c.asked(fmt.Errorf("%w: %s", ErrRefuses, bytes.TrimSpace(answer)))
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return c.asked(fmt.Errorf("%w: read the answer: %w", ErrProtocol, err))
	}
	return nil
}

// Answering makes a handler of questions below PathLead.
func Answering[In, Out any](answer func(ctx context.Context, in In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(io.LimitReader(r.Body, maxExchange)).Decode(&in); err != nil {
			http.Error(w, "the question cannot be read", http.StatusBadRequest)
			return
		}
		out, err := answer(r.Context(), in)
		if err != nil {
			http.Error(w, oneLine(err), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // a peer that left is not our error
	}
}
