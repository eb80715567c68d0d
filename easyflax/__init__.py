"""A neural-network module system on JAX (`easyflax.nnx`), and a Keras-like API on top of it."""
