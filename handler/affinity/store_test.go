package affinity_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/affinity"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

var errAway = errors.New("storage is away")

func remember(t *testing.T, o *affinity.Store, subscription, id, region string) {
	t.Helper()
	if err := o.Remember(t.Context(), subscription, id, region); err != nil {
		t.Fatal(err)
	}
}

func TestFindOnAnotherInstance(t *testing.T) {
	store := table.NewMem()
	for _, id := range []string{"resp_1", `odd/id\#?` + "\n" + strings.Repeat("x", 3000)} {
		remember(t, affinity.New(affinity.Options{Table: store}), "team", id, "west")
		other := affinity.New(affinity.Options{Table: store})
		for range 2 {
			if region, err := other.Find(t.Context(), "team", id); err != nil || region != "west" {
				t.Errorf("%q, %v", region, err)
			}
		}
	}
}

func TestFindHidesForeignIDs(t *testing.T) {
	o := affinity.New(affinity.Options{Table: table.NewMem()})
	remember(t, o, "team", "resp_1", "west")
	_, foreign := o.Find(t.Context(), "others", "resp_1")
	_, missing := o.Find(t.Context(), "others", "resp_2")
	if !errors.Is(foreign, affinity.ErrNotFound) || !errors.Is(missing, affinity.ErrNotFound) {
		t.Errorf("foreign %v, missing %v", foreign, missing)
	}
}

func TestFindCachesOnlyHits(t *testing.T) {
	store := table.NewMem()
	gets := 0
	store.SetFault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
		if op == table.OpGet {
			gets++
		}
		return true, nil
	})
	here, there := affinity.New(affinity.Options{Table: store}), affinity.New(affinity.Options{Table: store})
	if _, err := here.Find(t.Context(), "team", "resp_1"); !errors.Is(err, affinity.ErrNotFound) {
		t.Fatal(err)
	}
	remember(t, there, "team", "resp_1", "west")
	for range 3 {
		if region, err := here.Find(t.Context(), "team", "resp_1"); err != nil || region != "west" {
			t.Fatal(region, err)
		}
	}
	if gets != 2 {
		t.Errorf("read %d times, want 2", gets)
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	store := table.NewMem()
	gets := 0
	o := affinity.New(affinity.Options{Table: store, CacheSize: 20})
	remember(t, o, "team", "used", "west")
	for i := range 100 {
		remember(t, o, "team", fmt.Sprint("resp_", i), "west")
		if _, err := o.Find(t.Context(), "team", "used"); err != nil {
			t.Fatal(err)
		}
	}
	store.SetFault(func(context.Context, table.Op, table.Key) (bool, error) { gets++; return true, nil })
	for _, id := range []string{"used", "resp_99", "resp_0", "resp_1"} {
		if _, err := o.Find(t.Context(), "team", id); err != nil {
			t.Fatal(err)
		}
	}
	if gets != 2 {
		t.Errorf("%d reads, want 2: those that were used long ago", gets)
	}
}

func TestPurgeDeletesExpiredRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := table.NewMem()
		o := affinity.New(affinity.Options{Table: store, Lifetime: time.Hour})
		for i := range 50 {
			remember(t, o, "team", fmt.Sprint("old_", i), "west")
		}
		time.Sleep(time.Hour + time.Second)
		if _, err := o.Find(t.Context(), "team", "old_0"); !errors.Is(err, affinity.ErrNotFound) {
			t.Errorf("after its life: %v", err)
		}
		remember(t, affinity.New(affinity.Options{Table: store, Lifetime: 1000 * time.Hour}), "team", "new", "west")
		for range 256 {
			if _, err := o.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
		}
		left := 0
		for p := range 256 {
			for _, err := range store.Scan(t.Context(), fmt.Sprintf("%02x", p)) {
				if left++; err != nil {
					t.Fatal(err)
				}
			}
		}
		if left != 1 {
			t.Errorf("%d rows left of 51, want the one that lives", left)
		}
	})
}

func TestRememberRepeatsWrites(t *testing.T) {
	for _, applied := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := table.NewMem()
			inserts := 0
			store.SetFault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
				if op == table.OpInsert {
					if inserts++; inserts < 4 {
						return applied, errAway
					}
				}
				return true, nil
			})
			o := affinity.New(affinity.Options{Table: store})
			remember(t, o, "team", "resp_1", "west")
			if region, err := o.Find(t.Context(), "team", "resp_1"); err != nil || region != "west" {
				t.Errorf("applied %t: %q, %v", applied, region, err)
			}
		})
	}
}

func TestUnreachableTableHidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := table.NewMem()
		o := affinity.New(affinity.Options{Table: store})
		remember(t, o, "team", "known", "west")
		store.SetFault(func(ctx context.Context, _ table.Op, _ table.Key) (bool, error) {
			<-ctx.Done()
			return false, errAway
		})
		if region, err := o.Find(t.Context(), "team", "known"); err != nil || region != "west" {
			t.Errorf("what is in memory: %q, %v", region, err)
		}
		start := time.Now()
		_, err := o.Find(t.Context(), "team", "other")
		if gateway.KindOf(err) != gateway.Unavailable || time.Since(start) > 3*time.Second {
			t.Errorf("find: %v after %v", err, time.Since(start))
		}
		start = time.Now()
		err = o.Remember(t.Context(), "team", "made", "west")
		if gateway.KindOf(err) != gateway.Unavailable || time.Since(start) > 16*time.Second {
			t.Errorf("remember: %v after %v", err, time.Since(start))
		}
	})
}

func TestRememberRefusesTakenID(t *testing.T) {
	o := affinity.New(affinity.Options{Table: table.NewMem()})
	remember(t, o, "team", "resp_1", "west")
	remember(t, o, "team", "resp_1", "west")
	if err := o.Remember(t.Context(), "others", "resp_1", "west"); err == nil {
		t.Error("a second owner was noted")
	}
	if region, err := o.Find(t.Context(), "team", "resp_1"); err != nil || region != "west" {
		t.Errorf("the first owner lost it: %q, %v", region, err)
	}
}

func TestFindRefusesNewerRows(t *testing.T) {
	store := table.NewMem()
	remember(t, affinity.New(affinity.Options{Table: store}), "team", "resp_1", "west")
	for p := range 256 {
		for e, err := range store.Scan(t.Context(), fmt.Sprintf("%02x", p)) {
			if err != nil || e.Props["version"] != int64(1) {
				t.Fatalf("row %v, %v", e.Props, err)
			}
			e.Props["version"] = int64(2)
			if _, err := store.Replace(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err := affinity.New(affinity.Options{Table: store}).Find(t.Context(), "team", "resp_1")
	if _, ok := errors.AsType[*gateway.VersionError](err); !ok {
		t.Errorf("%v, want an error that names both versions", err)
	}
}
