"""Discovery: sources of other nodes' addresses (`base`), the first of which searches a subnet.

Cores: `schedule` (which host is asked when), `greeting` (what datagrams say). Shell: `subnet`.
"""
