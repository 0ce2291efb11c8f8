"""The commands of `heavytail` that train, measure and report."""
