"""Each run says which code it was begun with: commit, branch, whether it was changed, packages.

Run it: python examples/services/which_code_ran.py
"""

from __future__ import annotations

from runnable import Pipeline, PythonTask


def work() -> int:
    """Any step."""
    return 1


def main() -> None:
    """Run it, and look at the code."""
    step = PythonTask(function=work, name="work", returns=["x"])
    code = Pipeline(steps=[step]).execute().code
    assert code is not None
    print("commit:", code.commit[:12] or "not in a repository")
    print("branch:", code.branch or "none")
    print("changed:", {True: "yes", False: "no", None: "not known"}[code.dirty])
    print("remote:", code.remote or "none")
    print("python:", code.python)
    print("packages:", code.packages[:12])


if __name__ == "__main__":
    main()
