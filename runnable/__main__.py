"""`python -m runnable`: the same as the command `runnable`."""

from runnable.cli.app import run

if __name__ == "__main__":
    run()
