"""Verdicts on the disk until the broker has acknowledged them."""
