"""The relay protocol: schema and codec, shared by node, binding and relaycheck."""
