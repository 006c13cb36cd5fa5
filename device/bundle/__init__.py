"""What ships: a model, what its numbers mean, and the proof that they are whole."""
