"""The records of every layer, as they travel between nodes."""
