"""The JSON Schemas of everything that is written for others, and the reader that checks by them."""
