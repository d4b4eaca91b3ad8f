"""Run the benchmark: ``python -m bench [--quick] [--json FILE]``."""

from bench.run import main

raise SystemExit(main())
