"""Finding the other nodes of a subnet, over UDP."""
