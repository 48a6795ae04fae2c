package lead

import "context"

// watched is a Server whose failed changes count: the server may still be at them, see
// Controller.settle.
type watched struct {
	Server
	c *Controller
}

func (w watched) failed(err error) error {
	if err != nil {
		w.c.Unsettle()
	}
	return err
}

func (w watched) StopReceiving(ctx context.Context) error {
	return w.failed(w.Server.StopReceiving(ctx))
}
func (w watched) Apply(ctx context.Context) error  { return w.failed(w.Server.Apply(ctx)) }
func (w watched) Forget(ctx context.Context) error { return w.failed(w.Server.Forget(ctx)) }
func (w watched) SetSide(ctx context.Context, on bool) error {
	return w.failed(w.Server.SetSide(ctx, on))
}

func (w watched) Fetch(ctx context.Context, host string) error {
	return w.failed(w.Server.Fetch(ctx, host))
}

func (w watched) LetGo(ctx context.Context, statements []uint64) error {
	return w.failed(w.Server.LetGo(ctx, statements))
}

func (w watched) EndFetch(ctx context.Context) error { return w.failed(w.Server.EndFetch(ctx)) }

func (w watched) SetWaiting(ctx context.Context, on bool) error {
	return w.failed(w.Server.SetWaiting(ctx, on))
}

func (w watched) Accounts(ctx context.Context, members []string) error {
	return w.failed(w.Server.Accounts(ctx, members))
}

func (w watched) SetOffline(ctx context.Context, on bool) error {
	return w.failed(w.Server.SetOffline(ctx, on))
}

func (w watched) WriteAs(ctx context.Context, term uint64) error {
	return w.failed(w.Server.WriteAs(ctx, term))
}

func (w watched) Bar(ctx context.Context, member string) error {
	return w.failed(w.Server.Bar(ctx, member))
}

func (w watched) Admit(ctx context.Context, member string) error {
	return w.failed(w.Server.Admit(ctx, member))
}
func (w watched) Block(ctx context.Context) error { return w.failed(w.Server.Block(ctx)) }

func (w watched) Open(ctx context.Context, boot string, arm func(context.Context) error) error {
	return w.failed(w.Server.Open(ctx, boot, arm))
}
