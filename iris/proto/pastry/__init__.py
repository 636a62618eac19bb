"""The ring (Pastry): routing by id, the sessions that it needs, and their upkeep.

Cores: `maintenance` (which nodes are in the ring), `candidates` (which are dialled), `table` and
`routing` (where a message goes next). Shells: `sessions` (dials, introductions, closes), `overlay`.
"""
