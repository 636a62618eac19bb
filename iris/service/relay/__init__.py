"""The service for local applications: who attaches over TCP speaks the relay protocol.

`relay.py` is where the node looks.
"""
