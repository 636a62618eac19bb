"""Cryptography that is neither in OpenSSL nor in `cryptography`: cyclic groups and the station-to-station exchange."""
