// Package scribe declares the topic trees' packets, as the wire has them.
package scribe

import (
	"encoding/gob"
	"math/big"
)

type header struct {
	Meta   interface{}
	Op     uint8
	Sender *big.Int
	Topic  *big.Int
	Prev   *big.Int
	Report *report
}

type report struct {
	Tops []*big.Int
	Caps []int
}

func init() { gob.Register(new(header)) }

// Types lists what can be sent.
func Types() []interface{} { return []interface{}{new(header), new(report)} }
