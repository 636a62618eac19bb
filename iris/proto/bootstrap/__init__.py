"""Discovery: sources of other nodes' addresses (`base`), and the search of a subnet over UDP.

subnet   the source: one socket, two threads
schedule which host is asked when      greeting   what the datagrams say
"""
