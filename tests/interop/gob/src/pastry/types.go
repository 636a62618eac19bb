// Package pastry declares the ring's packets, as the wire has them.
package pastry

import (
	"encoding/gob"
	"math/big"
)

type initPacket struct {
	Id    *big.Int
	Addrs []string
}

type header struct {
	Meta  interface{}
	Op    uint8
	Dest  *big.Int
	State *state
}

type state struct {
	Addrs   map[string][]string
	Version uint64
}

func init() {
	gob.Register(new(initPacket))
	gob.Register(new(header))
}

// Types lists what can be sent.
func Types() []interface{} { return []interface{}{new(initPacket), new(header), new(state)} }
