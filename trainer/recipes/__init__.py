"""The ways to a model, each ending with an int8 file and judged images."""
