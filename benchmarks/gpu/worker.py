"""One case in a process of its own: says that it is ready, waits for its turn, prints its rows.

python -m benchmarks.gpu.worker '{"part": "kernels", "tiny": true, ...}'
"""

import importlib
import json
import sys
from typing import Any

MODULES = {"kernels": "kernels", "programs": "product", "peers": "peers", "job": "job", "scaling": "product"}
READY = "ready"


def main() -> None:
    case: dict[str, Any] = json.loads(sys.argv[1])
    run = importlib.import_module(f"benchmarks.gpu.{MODULES[case['part']]}").run(case)  # the peers' needs torch
    next(run)
    print(READY, flush=True)
    sys.stdin.readline()
    rows = next(run)
    print(json.dumps(rows), flush=True)
    run.close()


if __name__ == "__main__":
    main()
