"""The commands of `python -m device` that a person waits for."""
