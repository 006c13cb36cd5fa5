"""How good scores are, and where NG begins."""
