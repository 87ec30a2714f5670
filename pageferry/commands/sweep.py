"""`pageferry sweep PLAN.toml` and `pageferry sweep show`."""

from __future__ import annotations

from typing import Final

from cyclopts import App

from pageferry.sweeps.command import sweep
from pageferry.sweeps.show import show

sweep_app: Final = App(name="sweep", help=sweep.__doc__)
sweep_app.default(sweep)
sweep_app.command(show)
