"""The measures of flatness: `measure_names` finds every `Measure` in these files."""
