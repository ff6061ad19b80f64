"""Entry point of `python tests/conformance`.

Python puts this folder first on `sys.path`; its parent is put there instead, so that the
modules are imported as the package `conformance` and none can shadow one of CPython's. The
same file starts the parent and, with `--worker`, the processes that run the tests.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

if len(sys.argv) == 3 and sys.argv[1] == "--worker":
    from conformance.worker import main as worker_main

    sys.exit(worker_main(sys.argv[2]))

from conformance.cli import main  # noqa: E402

sys.exit(main())
