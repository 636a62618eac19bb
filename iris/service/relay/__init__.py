"""The relay: local applications attach over TCP and speak the relay protocol.

`server.py` is where the node looks.
"""
