"""Sessions between nodes: how they are dialled, accepted and authenticated."""
