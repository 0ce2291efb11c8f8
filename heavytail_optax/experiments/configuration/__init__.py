"""What a run is, as data: settings, presets, methods and measures."""
