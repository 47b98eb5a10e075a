"""The `airlock` command. `start.py` starts it; `main.py` reads the arguments; nothing heavy is imported before it is used."""
