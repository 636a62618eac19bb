"""What a node offers to programs outside of its network."""
