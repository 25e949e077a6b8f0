package backend_test

import (
	"fmt"
	"net/url"
	"testing"

	"aoaigateway/handler/backend"
)

// The choice of a region, without the request to it.
func BenchmarkChoiceOfARegion(b *testing.B) {
	for _, n := range []int{1, 3, 8} {
		b.Run(fmt.Sprint(n, " regions"), func(b *testing.B) {
			var regions []backend.Region
			for i := range n {
				name := fmt.Sprint("region", i)
				regions = append(regions, backend.Region{
					Name: name, Endpoint: &url.URL{Scheme: "https", Host: name}, Priority: 1, Weight: 1 + i%3, Models: map[string]string{"m": "m"},
				})
			}
			p := backend.New(backend.Options{Regions: regions})
			c := &backend.Call{Model: "m", Need: 100}
			b.ReportAllocs()
			for b.Loop() {
				if !p.Choose(c) {
					b.Fatal("no region")
				}
			}
		})
	}
}
