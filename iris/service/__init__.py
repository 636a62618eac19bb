"""What a node does for those outside of the network."""
