"""Where frames come from: the protocol, its adapters, and stand-ins that behave."""
