"""What a station says of itself: health, figures, log, birth."""
