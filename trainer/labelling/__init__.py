"""Masks and labels that people draw in Label Studio or CVAT: there and back."""
