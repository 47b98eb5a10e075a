"""Language-model providers. Importing this package loads no vendor SDK."""
