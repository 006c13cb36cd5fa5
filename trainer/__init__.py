"""The workstation side: images in, a checked bundle for the device out."""
