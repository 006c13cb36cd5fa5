"""From good parts to a memory of them, on the station itself."""
