"""Topic trees on the ring (Scribe): multicast and anycast by topic, direct messages by node.

Counterpart of Go's proto/scribe and proto/scribe/topic. Cores: `topic` (one topic's neighbours),
`trees` (which nodes become neighbours, and which are gone), `deferred` (messages that have no way
to go yet). Shell: `overlay` (lock, beat, messages).
"""
