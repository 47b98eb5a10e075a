"""Policies: what may be sent to a model, taken from it, and returned as the answer. `base` says how to write one."""
