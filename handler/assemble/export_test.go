package assemble

// Malformed counts the events that were not a JSON object.
func (a *Assembler) Malformed() int { return a.malformed }
