"""`Startup`: a business as one class, run by `bizcode run my_startup.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["Startup"]


class Startup:
    """Subclass it and say in `launch` what the business is: goals, experiments, views, handlers, schedules.

    >>> from bizcode import Business, Startup
    >>> class MyStartup(Startup):
    ...     def launch(self, biz):
    ...         biz.track.Launched()
    >>> with Business(":memory:", worker=False) as biz:
    ...     MyStartup().launch(biz)
    ...     biz.track.Launched.count().run()
    1
    """

    def launch(self, biz: Any) -> Any:
        """Called once with the business before the worker runs; may be a coroutine function."""
