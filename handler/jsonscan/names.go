package jsonscan

import "slices"

// nameResult is what is to be said of the name of a member.
type nameResult int

const (
	nameIsNew nameResult = iota
	nameIsTwice
	namesAreTooMany
)

// fewNames is up to how many names an object has no map of them.
const fewNames = 16

func (s *Scanner) addName(top *frame, hash uint64) nameResult {
	own := s.names[top.names:]
	if top.many != nil {
		if _, twice := top.many[hash]; twice {
			return nameIsTwice
		}
		top.many[hash] = struct{}{}
	} else if slices.Contains(own, hash) {
		return nameIsTwice
	}
	if len(s.names) == maxNames {
		return namesAreTooMany
	}
	s.names = append(s.names, hash)
	if len(own) == fewNames {
		top.many = map[uint64]struct{}{hash: {}}
		for _, n := range own {
			top.many[n] = struct{}{}
		}
	}
	return nameIsNew
}

// Names returns the names and positions around the last token: for each open object its
// present name as it is written, at most 64 bytes of it, and "#" for an array. It appends to
// dst, with a dot before each but the first.
func (s *Scanner) Names(dst []byte) []byte {
	for i := range s.stack {
		if i > 0 {
			dst = append(dst, '.')
		}
		if !s.stack[i].object {
			dst = append(dst, '#')
			continue
		}
		if name := s.nameAt(i); len(name) > 1 {
			dst = append(dst, name[1:len(name)-1]...)
		}
	}
	return dst
}

// nameAt returns the present name of the open object i in quotes, or its beginning.
func (s *Scanner) nameAt(i int) []byte {
	end := len(s.path)
	if i+1 < len(s.stack) {
		end = s.stack[i+1].path
	}
	return s.path[s.stack[i].path:end]
}
