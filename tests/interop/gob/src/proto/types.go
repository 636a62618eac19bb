// Package proto declares what every link packet begins with, as the wire has it.
package proto

// Header is a link packet's head.
type Header struct {
	Meta interface{}
	Key  []byte
	Iv   []byte
}

// Types lists what can be sent.
func Types() []interface{} { return []interface{}{new(Header)} }
