package affinity

import "sync"

// cache keeps what was used lately in two generations: when the young one is full it
// becomes the old one, and what the old one held is forgotten.
type cache struct {
	size int // of one generation

	mu         sync.Mutex
	young, old map[string]owner
}

func (c *cache) get(row string) (owner, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.young[row]; ok {
		return known, true
	}
	known, ok := c.old[row]
	if ok {
		c.add(row, known)
	}
	return known, ok
}

func (c *cache) put(row string, known owner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(row, known)
}

// add is called with mu held.
func (c *cache) add(row string, known owner) {
	if c.young == nil || len(c.young) >= c.size {
		c.old, c.young = c.young, make(map[string]owner)
	}
	c.young[row] = known
}
