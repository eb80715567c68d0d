"""Variables, modules, and the graphs that they form."""
