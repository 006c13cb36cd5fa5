"""How the station is: what is watched, what it means, and what mends it."""
