"""From a user's folder to labelled images, their splits, sizes and copies."""
