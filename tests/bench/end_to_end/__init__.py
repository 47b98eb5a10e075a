"""What whole runs cost over their model's own time: one alone, and many at once."""
