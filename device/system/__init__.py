"""The machine below: clock, disk, signals, threads, systemd."""
