package assemble

// eachMember calls f with the quoted name and the value of each member of obj. obj must be
// valid JSON.
func eachMember(obj []byte, f func(name, value []byte)) {
	for i := token(obj, 1); obj[i] != '}'; {
		nameEnd := valueEnd(obj, i)
		start := token(obj, nameEnd)
		end := valueEnd(obj, start)
		f(obj[i:nameEnd], obj[start:end])
		i = token(obj, end)
	}
}

// eachItem calls f with each item of array. array must be valid JSON.
func eachItem(array []byte, f func(value []byte)) {
	for i := token(array, 1); array[i] != ']'; {
		end := valueEnd(array, i)
		f(array[i:end])
		i = token(array, end)
	}
}

// token returns the index of the next name or value at or after i. It skips white space and
// separators.
func token(b []byte, i int) int {
	for b[i] == ' ' || b[i] == ',' || b[i] == ':' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t' {
		i++
	}
	return i
}

// valueEnd returns the index after the value that begins at i.
func valueEnd(b []byte, i int) int {
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		return nestedEnd(b, i)
	}
	for i < len(b) && b[i] > ' ' && b[i] != ',' && b[i] != '}' && b[i] != ']' {
		i++
	}
	return i
}

func stringEnd(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func nestedEnd(b []byte, i int) int {
	depth := 0
	for {
		switch b[i] {
		case '"':
			i = stringEnd(b, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
}
