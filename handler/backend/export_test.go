package backend

// WholeBody is the size up to which an answer is read whole.
const WholeBody = wholeBody
