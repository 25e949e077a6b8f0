package table_test

import (
	"context"
	"errors"
	"testing"

	"aoaigateway/handler/table"
	"aoaigateway/handler/table/tabletest"
)

// Mem keeps the contract.
func TestMemContract(t *testing.T) {
	tabletest.Run(t, func(*testing.T) table.Store { return table.NewMem() })
}

// Mem fails as told before or after applying.
func TestMemFailsAsTold(t *testing.T) {
	lost := errors.New("lost")
	key := table.Key{Partition: "p"}
	for name, tc := range map[string]struct {
		apply bool
		after error
	}{
		"failed":                {false, table.ErrNotFound},
		"failed after applying": {true, nil},
	} {
		m := table.NewMem()
		m.SetFault(func(_ context.Context, op table.Op, k table.Key) (bool, error) {
			if op != table.OpInsert || k != key {
				return true, nil
			}
			return tc.apply, lost
		})
		if _, err := m.Insert(t.Context(), table.Entity{Key: key}); !errors.Is(err, lost) {
			t.Errorf("%s: Insert: %v, want the fault", name, err)
		}
		if _, err := m.Get(t.Context(), key); !errors.Is(err, tc.after) {
			t.Errorf("%s: Get afterwards: %v, want %v", name, err, tc.after)
		}
	}
}
