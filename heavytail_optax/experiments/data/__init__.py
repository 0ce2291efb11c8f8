"""The images and labels that a run trains on, and those it is tested on."""
