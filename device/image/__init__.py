"""Pixels: frames, their geometry, and what is done to them before a model sees them."""
