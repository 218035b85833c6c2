"""The budgets of `runnable`, measured beside the bare limits: `python -m benchmarks`."""
