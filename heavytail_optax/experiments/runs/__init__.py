"""One run, and grids of methods and seeds, here or as jobs of a cluster."""
