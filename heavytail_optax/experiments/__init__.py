"""An application, not API: training on real data, as the command `heavytail` does it."""
