// Package child makes sure that started processes end together with this one, so that no
// test and no local stack leaves a server running. Only on Linux does this work for every
// way in which this process can end.
package child
