"""`python -m tests.bench.end_to_end`; with a JSON object it is the process that measures one part."""

import sys

from tests.bench.end_to_end.main import main
from tests.bench.end_to_end.parts import measure
from tests.bench.own_process import interruptible, measured_here

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("{"):
        measured_here(measure)
    else:
        raise SystemExit(interruptible(main))
