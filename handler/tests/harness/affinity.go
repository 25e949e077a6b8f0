package harness

import (
	"aoaigateway/handler/devstack/aoaisim"
)

// asked is the method and URL of a region's last requests.
func Asked(region *aoaisim.Region) (list []string) {
	for _, x := range region.Exchanges() {
		list = append(list, x.Method+" "+x.URL)
	}
	return list
}
