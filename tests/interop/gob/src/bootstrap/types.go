// Package bootstrap declares the datagram, as the wire has it.
package bootstrap

import "math/big"

// Message is what a datagram holds.
type Message struct {
	Version string
	Magic   []byte
	NodeId  *big.Int
	Overlay int
	Request bool
}

// Types lists what can be sent.
func Types() []interface{} { return []interface{}{new(Message)} }
