"""What lies in a user's folder: every file counted, and what its name and place say of it."""
