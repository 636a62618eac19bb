"""Cryptography that is neither in OpenSSL nor in `cryptography`.

Cyclic groups and the station-to-station exchange.
"""
