"""The `airlock` command: `start.py` starts it, `main.py` reads the arguments, the rest loads when it is used."""
