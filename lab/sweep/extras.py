"""What `pip install 'pageferry[sweep]'` brings, asked for before the work starts."""

from __future__ import annotations

from importlib.util import find_spec

from common.errors import UsageError


def need(what: str, *modules: str) -> None:
    """Raises `UsageError` that says what to install."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        names = " and ".join(missing)
        raise UsageError(f"{what} needs {names}: pip install 'pageferry[sweep]'")
