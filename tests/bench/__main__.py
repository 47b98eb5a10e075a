"""`make bench`: what a box costs, beside others (`tests.bench.speed`)."""

from tests.bench.own_process import interruptible
from tests.bench.speed.main import main

if __name__ == "__main__":
    raise SystemExit(interruptible(main))
