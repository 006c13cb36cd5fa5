"""Teaching a network, an epoch at a time."""
