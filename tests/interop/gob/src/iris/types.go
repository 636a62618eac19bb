// Package iris declares the packets between clusters, as the wire has them.
package iris

import (
	"encoding/gob"
	"time"
)

type header struct {
	Op       uint8
	Src      uint64
	Dest     uint64
	ReqId    uint64
	ReqFail  bool
	ReqTime  time.Duration
	TunId    uint64
	TunKey   []byte
	TunAddrs []string
	TunTime  time.Duration
}

type initPacket struct {
	ConnId uint64
	TunId  uint64
}

type authPacket struct {
	Id uint64
}

type dataHeader struct {
	SizeOrCont int
}

func init() {
	gob.Register(new(header))
	gob.Register(new(initPacket))
	gob.Register(new(authPacket))
	gob.Register(new(dataHeader))
}

// Types lists what can be sent.
func Types() []interface{} {
	return []interface{}{new(header), new(initPacket), new(authPacket), new(dataHeader)}
}
