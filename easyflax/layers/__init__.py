"""Layers in Keras's manner: NNX modules that make their weights when the shape of their input is known."""
