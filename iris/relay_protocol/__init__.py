"""The relay protocol, shared by node, binding and relaycheck.

`schema.py` declares every packet, `parser.py` reads them, `node_packets.py` and `client_packets.py`
write them.
"""
