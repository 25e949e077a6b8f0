// Package journal appends records to append blobs so that they are durable before an
// answer ends.
package journal
