"""The variables of a step's child process: what it inherits, and what tells of the step.

A parameter is data, and its name may come from whoever started the run. So a name that the loader,
a shell, an interpreter or a common tool obeys is not passed on, whatever its value: a parameter
`LD_PRELOAD` runs no code in the child, and a parameter `PATH` does not take its programs away.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from runnable.config_variables import is_secret
from runnable.defaults import KIB
from runnable.inside import Current
from runnable.masking import MIN_SECRET
from runnable.parameters import JsonParameter, Parameter

if TYPE_CHECKING:
    from runnable.scope import Scope

MAX_VARIABLE_BYTES: Final = 128 * KIB
"""What Linux takes of one variable: its name, `=`, its value, and the byte that ends it."""

_GUARDED: Final = re.compile(
    # What the loader and the C library obey.
    "(LD|DYLD|LC|MALLOC|RUNNABLE)_.*|GLIBC_TUNABLES|GCONV_PATH|LOCPATH|NLSPATH|LANG|LANGUAGE|TZ"
    "|TZDIR|RES_OPTIONS|LOCALDOMAIN|HOSTALIASES|RESOLV_.*|GETCONF_DIR|(A|L|M|T|UB)SAN_OPTIONS"
    # Shells.
    "|PATH|HOME|SHELL|USER|LOGNAME|IFS|ENV|PWD|OLDPWD|CDPATH|FPATH|ZDOTDIR|GLOBIGNORE|SHELLOPTS"
    "|BASH.*|PS[0-4]|PROMPT_COMMAND|POSIXLY_CORRECT|EXECIGNORE|FIGNORE|HISTFILE|INPUTRC|MAIL(PATH)?"
    "|PPID|E?UID|OPT(ARG|ERR|IND)|LINENO|RANDOM|SECONDS|SHLVL|_"
    # Where programs put files, and how they show them.
    "|TMPDIR|TMP|TEMP|XDG_.*|TERM|TERMCAP|TERMINFO(_DIRS)?|DISPLAY|WAYLAND_DISPLAY|DBUS_.*"
    "|EDITOR|VISUAL|FCEDIT|(MAN|GIT_)?PAGER|BROWSER|LESS(OPEN|CLOSE|KEY.*)?"
    # Interpreters, compilers and virtual environments.
    "|PYTHON.*|VIRTUAL_ENV.*|CONDA_.*|PIP_.*|UV_.*|PERL.*|RUBY.*|GEM_.*|BUNDLE_.*|NODE_.*|NPM_.*"
    "|npm_.*|JAVA_.*|_?JAVA_OPTIONS|JDK_.*|CLASSPATH|R_(HOME|LIBS|PROFILE|ENVIRON).*|LUA_.*|PHPRC"
    "|PHP_INI_.*|TCLLIBPATH|TCL_LIBRARY|GUILE_.*|GO(ROOT|FLAGS|PROXY|PATH)|RUSTC?_.*|CARGO_.*"
    "|MAKE(FILES|FLAGS|LEVEL)|GNUMAKEFLAGS|CC|CXX|CPP|LIBRARY_PATH|(C|CPLUS|OBJC)_INCLUDE_PATH"
    "|CPATH|COMPILER_PATH|GCC_EXEC_PREFIX|PKG_CONFIG.*"
    # Tools that run programs, and what says whom they trust and with whom they talk.
    "|GIT_(SSH.*|EXEC_PATH|CONFIG.*|DIR|WORK_TREE|PROXY_.*|ASKPASS|EDITOR|SEQUENCE_EDITOR"
    "|EXTERNAL_DIFF|TEMPLATE_DIR|TRACE.*|OBJECT_DIRECTORY|ALTERNATE_.*|INDEX_FILE|COMMON_DIR)"
    "|SSH_.*|SUDO_.*|GNUPGHOME|GPG_.*|OPENSSL_.*|SSL(KEYLOG.*|_.*)|CURL_.*|REQUESTS_CA_BUNDLE"
    "|NETRC|WGETRC|KRB5.*|(HTTPS?|FTP|ALL|NO|RSYNC)_PROXY|(https?|ftp|all|no|rsync)_proxy"
    "|DOCKER_.*|KUBE.*|CLOUDSDK_.*|AWS_(ENDPOINT_.*|CONFIG_FILE|SHARED_.*|CA_BUNDLE)"
    "|GOOGLE_APPLICATION_CREDENTIALS|TAR_OPTIONS|RSYNC_RSH|CVS_RSH|BC_ENV_ARGS"
)


def environment_of(scope: Scope, secrets: Collection[str], *, parameters: bool) -> dict[str, str]:
    """The variables of a step's child process.

    It has what this process has, but for `RUNNABLE_KEY`, variables that give a service a secret, as
    `RUNNABLE_RUN_LOG_STORE_PASSWORD` does, and the secrets that only other steps name. Then, later
    wins, it has the step's parameters, its iteration variables, its own secrets, and
    `RUNNABLE_RUN_ID`, `RUNNABLE_STEP_PATH`, `RUNNABLE_STEP_ATTEMPT`, `RUNNABLE_IDEMPOTENCY_KEY`.
    Values that are no text are JSON. What `obstacle` has something to say of is left out.

    Args:
        scope: The attempt's.
        secrets: The names of the step's own.
        parameters: Whether its parameters are among them, and not only the iteration variables.
    """
    run, current = scope.run, Current(scope)
    own = {name: run.secrets[name] for name in secrets if name in run.secrets}
    own.pop("RUNNABLE_KEY", None)
    data: dict[str, str] = {}
    for name, parameter in values_of(scope, parameters=parameters).items():
        if not obstacle(name, parameter):
            data[name] = text_of(parameter)
    return {
        **_inherited(run.secrets, own),
        **data,
        **own,
        "RUNNABLE_RUN_ID": current.run_id,
        "RUNNABLE_STEP_PATH": current.path,
        "RUNNABLE_STEP_ATTEMPT": str(current.attempt),
        "RUNNABLE_IDEMPOTENCY_KEY": current.idempotency_key,
    }


def _inherited(secrets: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """This process's variables without other steps' secrets, under whatever name they stand."""
    others = {name: value for name, value in secrets.items() if name not in own}
    hidden = {value for value in others.values() if len(value) >= MIN_SECRET} - {*own.values()}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in others
        and value not in hidden
        and name != "RUNNABLE_KEY"
        and not is_secret(name)
    }


def values_of(scope: Scope, *, parameters: bool) -> dict[str, Parameter]:
    """What a step's child process is given by name, if an environment can hold it."""
    found = dict(scope.parameters) if parameters else {}
    for name, value in scope.variables.items():
        found[name] = value if isinstance(value, Parameter) else JsonParameter(value)
    return found


def text_of(parameter: Parameter) -> str:
    """A value as a variable holds it: text as it is, everything else as JSON.

    Example:
        >>> text_of(JsonParameter("as it is")), text_of(JsonParameter([1, None]))
        ('as it is', '[1,null]')
    """
    if not parameter.encoded.startswith(b'"'):
        return parameter.encoded.decode()
    return str(parameter.get_value())


def is_guarded(name: str) -> bool:
    """Whether programs obey a variable of that name, so that no parameter is passed on as it.

    Example:
        >>> [is_guarded(name) for name in ("LD_PRELOAD", "PATH", "path", "topic")]
        [True, True, False, False]
    """
    return _GUARDED.fullmatch(name) is not None


def obstacle(name: str, parameter: Parameter) -> str:
    """Why a parameter does not reach a child process; empty if it does.

    Example:
        >>> obstacle("topic", JsonParameter("foxes"))
        ''
        >>> obstacle("PATH", JsonParameter("/tmp"))
        'programs obey a variable of that name'
    """
    if is_guarded(name):
        return "programs obey a variable of that name"
    if parameter.kind == "object":
        return "it is a pickled object"
    return _unfit_name(name) or _unfit_text(name, parameter)


def _unfit_name(name: str) -> str:
    if not name:
        return "its name is empty"
    if "=" in name or "\0" in name:
        return "its name has a '=' or a NUL character in it"
    return "" if _bytes(name) is not None else "the system cannot encode its name"


def _unfit_text(name: str, parameter: Parameter) -> str:
    # Six bytes of JSON are one of text at most, so what is longer than that need not be decoded.
    if len(parameter.encoded) > 6 * MAX_VARIABLE_BYTES + 2:
        return _too_long(len(parameter.encoded))
    text = text_of(parameter)
    if "\0" in text:
        return "it has a NUL character in it"
    data = _bytes(text)
    if data is None:
        return "the system cannot encode it"
    size = len(os.fsencode(name)) + len(data) + 2
    return _too_long(len(data)) if size > MAX_VARIABLE_BYTES else ""


def _too_long(size: int) -> str:
    return f"it is {size:,} bytes long, and the system takes {MAX_VARIABLE_BYTES // KIB} KiB"


def _bytes(text: str) -> bytes | None:
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return None
