"""`make bench`: what a box and a run cost, beside others."""

from tests.bench.main import main
from tests.bench.own_process import interruptible

if __name__ == "__main__":
    raise SystemExit(interruptible(main))
