"""Links between nodes: one TCP connection each."""
