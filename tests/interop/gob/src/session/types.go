// Package session declares the handshake's packets, as the wire has them.
package session

import (
	"encoding/gob"
	"math/big"
)

type initRequest struct {
	Auth *authRequest
	Link *linkRequest
}

type authRequest struct {
	Exp *big.Int
}

type authChallenge struct {
	Exp   *big.Int
	Token []byte
}

type authResponse struct {
	Token []byte
}

type linkRequest struct {
	Id int64
}

func init() { gob.Register(new(linkRequest)) }

// Types lists what can be sent.
func Types() []interface{} {
	return []interface{}{new(initRequest), new(authRequest), new(authChallenge), new(authResponse), new(linkRequest)}
}
