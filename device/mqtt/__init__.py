"""The station's voice and ears: one connection, what is told, what is heard."""
