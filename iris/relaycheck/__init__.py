"""Says whether a program speaks the relay protocol `v1.0-draft2` correctly.

`tools/relaycheck`, see docs/relay-protocol.md.

`judge.py` is the core that all modes share: bytes of both directions in, violations out. `proxy.py`
looks on between a binding and a node, `node.py` plays bindings against a node, `binding.py` plays a
node for a binding's program.
"""
