package quota
import ("context";"log/slog";"aoaigateway/handler/gateway";"aoaigateway/handler/policy";"aoaigateway/handler/table")
type Cost struct{Estimate, Bound int64}
type Options struct{Store table.Store; Policy *policy.Policy; Logger *slog.Logger}
type Limiter struct{}
type Reservation struct{}
func New(Options) *Limiter {return &Limiter{}}
func (l *Limiter) Reserve(context.Context, gateway.Caller, string, Cost) (*Reservation, error) {return &Reservation{},nil}
func (l *Limiter) Close(context.Context) {}
func (*Reservation) Again(context.Context) error {return nil}
func (*Reservation) Keep() {}
func (*Reservation) Settle(context.Context, gateway.Usage) error {return nil}
func (*Reservation) Cancel(context.Context) {}
func (*Reservation) Unsure() bool {return false}
