"""Cryptography that `cryptography` lacks: cyclic groups, the station-to-station exchange; keys."""
