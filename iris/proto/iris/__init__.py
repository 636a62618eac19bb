"""The Iris layer: clusters, requests, topics and tunnels by name.

`overlay.py` is where users of this package look.
"""
