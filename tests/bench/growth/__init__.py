"""Whether time and memory grow no faster than what a run is given."""
