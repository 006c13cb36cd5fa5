"""Images that are kept, found again and reviewed."""
