"""A function out of the text of a lambda, which is held to an expression before it becomes code.

What a definition says is trusted as a script is; but a text that stands among settings should be
seen at a glance to compute a value, and do nothing else.
"""

from __future__ import annotations

import ast
from types import CodeType
from typing import Any, Final, NoReturn

from runnable.exceptions import ReducerError, first_line, nearest
from runnable.functions import Function

BUILTINS: Final[dict[str, Function]] = {
    one.__name__: one
    for one in (
        *(abs, all, any, bool, chr, dict, divmod, enumerate, filter, float, frozenset, int, len),
        *(list, map, max, min, ord, range, repr, reversed, round, set, sorted, str, sum, tuple),
        zip,
    )
}
"""The builtins that a text may call."""
METHODS: Final = (
    *("count", "endswith", "get", "index", "items", "join", "keys", "lower", "lstrip", "rstrip"),
    *("split", "startswith", "strip", "upper", "values"),
)
"""The methods that it may call, of whatever has them."""
MAX_TEXT: Final = 4_096
"""Characters of a text."""
MAX_DEPTH: Final = 60
"""How deep its parts may be nested."""

_ALLOWED: Final = (
    "A text may hold numbers, texts, lists, tuples, sets, dicts, f-strings, comprehensions, "
    "operators, conditions, subscripts, lambdas, and calls of builtins and methods of the list. "
    "For more, give the dotted path of a function."
)
_PARTS: Final = (
    *(ast.Expression, ast.Lambda, ast.arguments, ast.arg, ast.Name, ast.Load, ast.Store),
    *(ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred, ast.JoinedStr),
    *(ast.FormattedValue, ast.Subscript, ast.Slice, ast.Call, ast.keyword, ast.Attribute),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.operator, ast.unaryop),
    *(ast.boolop, ast.cmpop, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
    ast.comprehension,
)
_CONSTANTS: Final = (str, int, float, bool, type(None))


def lambda_of(text: str) -> Function:
    """The function that the text of a lambda makes.

    Args:
        text: `lambda xs: …` or `lambda *xs: …`, of at most 4,096 characters, nested 60 deep: an
            expression over its own arguments and a fixed list of builtins and methods.

    Raises:
        ReducerError: If it is anything else.

    Example:
        >>> lambda_of("lambda xs: max(xs) + 1")([1, 2])
        3
    """
    code = _Reader(text).code()
    try:
        return eval(code, {"__builtins__": {}, **BUILTINS})
    except Exception as error:  # the defaults of its arguments are worked out here
        raise ReducerError(text, f"has a default that fails ({first_line(error)})") from error


class _Reader:
    """Reads one text, and refuses what it may not hold."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._known: set[str] = {*BUILTINS}
        self._called: set[ast.Attribute] = set()

    def code(self) -> CodeType:
        """The code of the text: only what was held to the list above becomes any."""
        if len(self._text) > MAX_TEXT:
            self._refuse(f"is longer than {MAX_TEXT:,} characters")
        try:
            tree = ast.parse(self._text, mode="eval")
            self._check(tree)
            return compile(tree, "<reducer>", "eval")
        except SyntaxError as error:
            column = self._column(error.lineno or 1, (error.offset or 1) - 1)
            self._refuse(f"is no expression ({error.msg})", column)
        except (RecursionError, MemoryError):
            self._refuse("is nested too deep")
        except UnicodeError:
            self._refuse("has half of a character (a lone surrogate)")
        except ValueError as error:
            if isinstance(error, ReducerError):
                raise
            self._refuse(f"cannot be read ({error})")

    def _check(self, tree: ast.Expression) -> None:
        if not isinstance(tree.body, ast.Lambda):
            self._refuse("is no lambda")
        for node in ast.walk(tree):
            self._learn(node)
        waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
        while waiting:
            node, depth = waiting.pop()
            self._hold(node, depth)
            waiting += [(inner, depth + 1) for inner in ast.iter_child_nodes(node)]

    def _learn(self, node: ast.AST) -> None:
        """Take the names that the text gives, and what it calls."""
        if isinstance(node, ast.arg):
            self._known.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self._known.add(node.id)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            self._called.add(node.func)

    def _hold(self, node: ast.AST, depth: int) -> None:
        place = node if hasattr(node, "lineno") else None
        if depth > MAX_DEPTH:
            self._refuse(f"is nested more than {MAX_DEPTH} deep", self._place(place))
        allowed = isinstance(node, _PARTS)
        match node:
            case ast.Constant(value=value):
                allowed = isinstance(value, _CONSTANTS)
            case ast.comprehension(is_async=1):
                allowed = False
            case ast.Attribute(attr=name):
                if node not in self._called or name not in METHODS:
                    methods = ", ".join(METHODS)
                    reason = f"reads .{name}, which is no method that it may call"
                    self._refuse(reason, self._place(node), f"There are: {methods}.")
            case ast.Name(id=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                self._hold_name(name, node)
            case _:
                pass
        if not allowed:
            self._refuse(
                f"holds what it may not ({type(node).__name__})", self._place(place), _ALLOWED
            )

    def _hold_name(self, name: str, node: ast.AST) -> None:
        if name.startswith("__"):
            self._refuse(f"has the name {name!r}", self._place(node), "Choose another name.")
        if isinstance(node, ast.Name) and name not in self._known:
            known = f"There are: {', '.join(nearest(name, self._known))}."
            more = "For more, give the dotted path of a function."
            reason = f"reads {name!r}, which it does not give"
            self._refuse(reason, self._place(node), f"{known} {more}")

    def _place(self, node: Any) -> int:
        return 0 if node is None else self._column(node.lineno, node.col_offset, in_bytes=True)

    def _column(self, line: int, offset: int, *, in_bytes: bool = False) -> int:
        """The column in the whole text; a tree counts bytes, a syntax error characters."""
        lines = self._text.splitlines(keepends=True)[: max(line, 1)] or [""]
        last = lines[-1]
        if in_bytes:
            offset = len(last.encode(errors="replace")[:offset].decode(errors="ignore"))
        return sum(map(len, lines[:-1])) + max(offset, 0) + 1

    def _refuse(self, reason: str, column: int = 0, advice: str = "") -> NoReturn:
        raise ReducerError(self._text, reason, column, advice)
