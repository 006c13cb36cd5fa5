"""Setting a station up by eye: the live picture in a browser, and a picture into a file."""
