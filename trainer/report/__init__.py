"""One HTML file that says how good a model is, where it errs and what made it."""
