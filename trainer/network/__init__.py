"""The networks as Keras models, and as int8 files."""
