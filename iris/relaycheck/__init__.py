"""Check whether a program speaks the relay protocol `v1.0-draft2` correctly.

`tools/relaycheck` and `python -m iris.relaycheck`; docs/relay-protocol.md. `checker.py` is the core
that all modes share: bytes of both directions in, violations out. `node.py` runs `cases/` as fake
clients against a node, `binding.py` runs a binding's program against a fake node, once for each of
the `scenarios.py`, and `proxy.py` observes a binding and a node.
"""
