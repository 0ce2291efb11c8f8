"""What is measured of a trained network: its flatness and its gradient noise."""
