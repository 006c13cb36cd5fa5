"""What a bundle says of its model: calibration, provenance, golden reference."""
