"""A Jupyter kernel inside a locked container without a network. Knows no language model and holds no key."""
