"""What a run keeps on disk, whole after a kill at any moment."""
