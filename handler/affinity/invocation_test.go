package affinity_test

import (
	"context"
	"errors"
	"testing"

	"aoaigateway/handler/affinity"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

func TestFirstDelivery(t *testing.T) {
	store := table.NewMem()
	process := func() *affinity.Store { return affinity.New(affinity.Options{Table: store}) }
	if err := process().FirstDelivery(t.Context(), "team", "i1"); err != nil {
		t.Fatal(err)
	}
	if err := process().FirstDelivery(t.Context(), "team", "i2"); err != nil {
		t.Errorf("another invocation: %v", err)
	}
	if err := process().FirstDelivery(t.Context(), "team", "i1"); gateway.KindOf(err) != gateway.BadRequest {
		t.Errorf("the same invocation again: %v", err)
	}
	store.SetFault(func(context.Context, table.Op, table.Key) (bool, error) { return false, errors.New("storage is away") })
	if err := process().FirstDelivery(t.Context(), "team", "i3"); gateway.KindOf(err) != gateway.Unavailable {
		t.Errorf("without storage: %v", err)
	}
}
