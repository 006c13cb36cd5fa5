"""The production line's wires: triggers in, outputs out."""
