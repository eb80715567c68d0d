"""JAX's transforms for functions of modules."""
