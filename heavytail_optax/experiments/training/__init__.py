"""Training in compiled chunks of steps."""
