"""The `bizcode` command."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from .business import Business
from .errors import BizError, InvalidQuery
from .locate import is_url
from .record import SYSTEM
from .startup import Startup

__all__ = ["app", "main"]

app = typer.Typer(
    help="Business as code: track, measure, experiment, goals, streams, views and entities over one durable log.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_Store = Annotated[
    str | None,
    typer.Option("--store", help="The business's directory or URL; default $BIZCODE_URL, else ./.bizcode."),
]


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 100)


def _existing(store: str | None) -> Business:
    """An opened store that must be there already: a typing error must not create one."""
    place = store or os.environ.get("BIZCODE_URL") or ".bizcode"
    if is_url(place):
        return Business(place, worker=False)
    directory = Path(place)
    if not (directory / "log.db").exists():
        raise BizError(
            f"{directory} holds no business: name one with --store, or make one with `bizcode demo`"
        )
    return Business(directory, worker=False)


@app.command()
def demo(
    store: Annotated[Path, typer.Option(help="Where the demo's store is kept.")] = Path("acme-demo"),
    serve: Annotated[bool, typer.Option("--serve", help="Then open it in the dashboard.")] = False,
    port: Annotated[int, typer.Option(help="The dashboard's port; 0 takes any that is free.")] = 8484,
) -> None:
    """Load a real business's purchase history (CDNOW, 1997 to 1998) and print what it says."""
    from .demo import demo as run_demo

    run_demo(store, _console())
    if serve:
        from .clock import ManualClock
        from .demo import END
        from .serve.showcase import showcase

        clock = ManualClock(END)
        typer.echo("\nPreparing goals, an experiment, a stream and customers for the dashboard")
        with Business(store, clock=clock) as biz:
            showcase(biz, clock)
            _serve(biz, port=port)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A Python file with a Startup subclass, or a `biz`.")],
    store: _Store = None,
) -> None:
    """Launch a Startup (or a module's `biz`) and run the worker until SIGTERM or SIGINT."""
    biz = _launched(file, store)
    # Said only when a signal is obeyed already.
    biz.store.consumers.run(ready=lambda: typer.echo(f"{biz} is running; SIGTERM or Ctrl-C ends it"))
    biz.close()


def _launched(file: Path, store: str | None) -> Business:
    """The business of a file, with its Startup launched."""
    if not file.is_file():
        raise BizError(f"there is no file {str(file)!r}")
    sys.path.insert(0, str(file.resolve().parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Startup) and value is not Startup
    ]
    found = [value for value in found if value.__module__ == module.__name__] or found
    # One that others build upon is not what is meant.
    found = [value for value in dict.fromkeys(found) if not any(value in one.__mro__[1:] for one in found)]
    if len(found) > 1:
        names = ", ".join(value.__name__ for value in found)
        raise BizError(
            f"{file} has several subclasses of Startup ({names}): bizcode run launches one, leave one"
        )
    biz = getattr(module, "biz", None)
    if not found and not isinstance(biz, Business):
        raise BizError(f"{file} has neither a subclass of Startup nor a `biz`: bizcode run needs one of them")
    if isinstance(biz, Business) and store is not None:
        raise BizError(f"{file} has a `biz` of its own: --store goes with a Startup without one")
    if not isinstance(biz, Business):
        biz = Business(store)
    if found:
        launched = found[0]().launch(biz)
        if inspect.isawaitable(launched):
            import asyncio

            asyncio.run(_await(launched))
    return biz


async def _await(awaitable: Any) -> Any:
    return await awaitable


@app.command()
def serve(
    file: Annotated[
        Path | None,
        typer.Argument(help="A Python file as for `run`, for the goals and views that it defines."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; others than this machine's demand a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes any that is free.")] = 8484,
    token: Annotated[
        str | None, typer.Option(help="What opens the dashboard and the API; better set BIZCODE_TOKEN.")
    ] = None,
    store: _Store = None,
) -> None:
    """Serve the dashboard, the JSON API and the ingestion of PostHog's and Segment's SDKs."""
    with Business(store) if file is None else _launched(file, store) as biz:
        _serve(biz, host=host, port=port, token=token)


def _serve(biz: Business, **options: Any) -> None:
    from .serve import run as serve_run
    from .serve.server import write_key

    def started(url: str) -> None:
        typer.echo(f"Dashboard   {url}")
        typer.echo(f"Write key   {write_key(biz)}   (for the SDKs of PostHog and Segment, host {url})")
        typer.echo("SIGTERM or Ctrl-C ends it")

    serve_run(biz, started=started, **options)


@app.command()
def keys(
    add: Annotated[str | None, typer.Option(help="Make a key: write, read or admin.")] = None,
    name: Annotated[str, typer.Option(help="What the new key is for.")] = "default",
    tenant: Annotated[Optional[str], typer.Option(help="Whose data the new key reaches.")] = None,  # noqa: UP045
    revoke: Annotated[Optional[str], typer.Option(help="Take a key back, by its text or id.")] = None,  # noqa: UP045
    store: _Store = None,
) -> None:
    """The write keys and tokens of `bizcode serve`: list, make, take back."""
    from .query.present import to_table
    from .query.text import text_table
    from .serve import Keys

    with _existing(store) as biz:
        known = Keys(biz.store)
        if revoke is not None:
            known.revoke(revoke)
        if add is not None:
            typer.echo(known.create(add, name, tenant))
            return
        rows = [
            {
                "scope": key.scope,
                "name": key.name,
                "tenant": key.tenant or "",
                "key": key.text,
                "id": key.id[:12],
            }
            for key in known.list()
        ]
        typer.echo(
            text_table(to_table(rows, "keys")) if rows else "there are no keys yet: --add write makes one"
        )


@app.command()
def load(
    path: Annotated[Path, typer.Argument(help="A CSV, JSONL or Parquet file.")],
    event: Annotated[str | None, typer.Option(help="The events' name, or the column that holds it.")] = None,
    time: Annotated[Optional[str], typer.Option(help="The column with the time.")] = None,  # noqa: UP045
    user: Annotated[Optional[str], typer.Option(help="The column with the user's id.")] = None,  # noqa: UP045
    properties: Annotated[
        str | None, typer.Option(help="Which columns become properties, by commas.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the file if any line is broken.")] = False,
    store: _Store = None,
) -> None:
    """Load a file as tracked events. Killed and started again it goes on where it was, without doubles."""
    from .transfer import progress_bar

    bar, move = progress_bar(path.name)
    with Business(store, worker=False) as biz, bar:
        names = None if properties is None else [name.strip() for name in properties.split(",")]
        done = biz.load(
            path, event=event, time=time, user=user, properties=names, strict=strict, progress=move
        )
    typer.echo(
        f"{done.records:,} {'record' if done.records == 1 else 'records'} loaded"
        + (f", {done.skipped:,} were there already" if done.skipped else "")
    )
    for broken in done.broken[:20]:
        typer.echo(f"line {broken.line}: {broken.reason}", err=True)
    if done.broken:
        lines = "line was" if len(done.broken) == 1 else "lines were"
        typer.echo(f"{len(done.broken):,} broken {lines} left out", err=True)


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="A directory for Parquet, else a file.")],
    format: Annotated[str, typer.Option(help="parquet, csv or jsonl.")] = "parquet",
    what: Annotated[str, typer.Option(help="events, measures or entity_events.")] = "events",
    since: Annotated[str | None, typer.Option(help='Only from then on: "7d", "month", "2024-01-01".')] = None,
    store: _Store = None,
) -> None:
    """Write records as Hive-partitioned Parquet, CSV or JSONL."""
    with _existing(store) as biz:
        done = biz.export(path, format=format, what=what, since=since)
    typer.echo(f"{done.records:,} records in {len(done.files):,} files under {path}")


@app.command()
def query(
    expression: Annotated[
        str, typer.Argument(help='Like: track.Signup.count().since("7d").by("plan"), or a SELECT.')
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL in place of the answer.")] = False,
    store: _Store = None,
) -> None:
    """Ask in the library's own words (`biz.` may be left out), or in SQL over events, measures, entity_events.
    Nothing can be recorded by it."""
    from .query.base import Query
    from .query.present import to_table
    from .query.text import text_table

    with _existing(store) as biz:
        biz.store.writer.guards.append(_only_asked)
        text = expression.strip()
        if text.lower().startswith(("select", "with")):
            asked: Any = biz.sql(text)
        else:
            asked = _evaluate(text, biz)
        if isinstance(asked, Query):
            if not as_json:
                typer.echo(asked.sql() if sql else asked.shown())
                return
            asked = asked.run()
    if as_json:
        typer.echo(json.dumps(_plain(asked), default=str, ensure_ascii=False))
    else:
        typer.echo(text_table(to_table(asked)))


def _only_asked(_: Any, drafts: Any) -> Any:
    """Lets an assignment log its exposure, and nobody's slip record a fact."""
    for draft in drafts:
        if draft.kind != SYSTEM:
            raise InvalidQuery(
                f"bizcode query only asks, and this would record {draft.name!r}: nothing was stored; record in "
                f"Python, or with `bizcode load`"
            )
    return drafts


def _evaluate(text: str, biz: Business) -> Any:
    """An expression of the owner's own shell, in her own words."""
    from .plan.fields import prop, this

    names = {name: getattr(biz, name) for name in ("track", "measure", "sql", "step", "now")}
    names |= {"biz": biz, "this": this, "prop": prop}
    try:
        return eval(text.replace("$.", "biz."), {"__builtins__": {}}, _Names(biz, names))
    except BizError:
        raise
    except (SyntaxError, NameError, TypeError, AttributeError) as error:
        raise BizError(f"{text!r} can't be asked: {error}") from error


class _Names(dict):
    """The business's own names, without `biz.` before them."""

    def __init__(self, biz: Business, names: dict[str, Any]) -> None:
        super().__init__(names)
        self._biz = biz

    def __missing__(self, name: str) -> Any:
        try:
            return getattr(self._biz, name)
        except AttributeError:
            raise KeyError(name) from None


def _plain(item: Any) -> Any:
    import dataclasses

    given: Any = item
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {f.name: _plain(getattr(item, f.name)) for f in dataclasses.fields(item)}
    if isinstance(item, dict):
        return {_key(key): _plain(value) for key, value in item.items()}
    if hasattr(given, "_names"):
        return dict(zip(given._names, map(_plain, given), strict=True))
    if isinstance(item, (list, tuple)):
        return [_plain(value) for value in item]
    if hasattr(given, "data") and hasattr(given, "position"):
        return {name: getattr(given, name) for name in ("position", "id", "type", "timestamp", "data")}
    return item


def _key(key: Any) -> str:
    return " | ".join(map(str, key)) if isinstance(key, tuple) else str(key)


@app.command()
def info(store: _Store = None) -> None:
    """What is in a store: events, metrics, sizes."""
    from .query.present import to_table
    from .query.text import text_table

    with _existing(store) as biz:
        typer.echo(f"{biz}  timezone {biz.timezone}")
        names = biz.track.names().run()
        rows = [
            {"event": name, "count": biz.track[name].count().run(), "users": biz.track[name].unique().run()}
            for name in names
        ]
        typer.echo(text_table(to_table(rows, "event")))
        rows = [
            {
                "metric": name,
                "samples": biz.measure[name].count().run(),
                "current": _current(biz, name),
            }
            for name in biz.measure.names().run()
        ]
        if rows:
            typer.echo("")
            typer.echo(text_table(to_table(rows, "metric")))
        rolled = [
            {
                "rollup": one.metric,
                "cells": ", ".join(f"{count:,} by {level}" for level, count in one.cells.items()),
                "keeps": ", ".join(f"{source} {length}" for source, length in one.retention.items()) or "all",
                "behind": one.lag,
            }
            for one in biz.measure.rollups().run()
        ]
        if rolled:
            typer.echo("")
            typer.echo(text_table(to_table(rolled, "rollup")))
        found = biz.goal.all().progress().run()
        if found:
            from .goal.show import bars

            typer.echo("")
            _console().print(bars(found))
        from .people import size

        typer.echo(f"\n{size(biz.store):,} bytes on disk")


def _current(biz: Business, name: str) -> Any:
    """A metric's latest value; None where that was deleted by a rollup's retention."""
    from .errors import InvalidQuery

    try:
        return biz.measure[name].current().run()
    except InvalidQuery:
        return None


@app.command()
def goals(
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only those: on-track, at-risk, off-track, achieved, open, missed, archived."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    store: _Store = None,
) -> None:
    """Every active goal with its progress, where it is projected to end, and its status."""
    from .goal.show import bars

    with _existing(store) as biz:
        listed = biz.goal.list(status=status or "active", owner=owner).run()
        known = {p.name: p for p in (biz.goal.progress_of(one.name) for one in listed) if p is not None}
        if as_json:
            typer.echo(json.dumps([_plain(p) for p in known.values()], default=str, ensure_ascii=False))
            return
        if known:
            _console().print(bars(list(known.values()), {one.name: one.owner for one in listed}))
        else:
            typer.echo("no goals" if not listed else "")
        for one in listed:
            if one.name not in known:
                typer.echo(f"{one.name}: its target holds a Python function, which only its own program has")


@app.command()
def streams(store: _Store = None) -> None:
    """Every stream: position, lag, watermark, open windows, late and dead counts."""
    from .query.present import to_table
    from .query.text import text_table

    with _existing(store) as biz:
        typer.echo(text_table(to_table(biz.stream.list().run(), "streams")))


@app.command()
def doctor(
    mend: Annotated[bool, typer.Option("--mend", help="Repair what can be.")] = False, store: _Store = None
) -> None:
    """Check every invariant of a store."""
    with _existing(store) as biz:
        report = biz.doctor(mend=mend)
    typer.echo(str(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def compact(store: _Store = None) -> None:
    """Seal the tail and merge the segments."""
    with _existing(store) as biz:
        typer.echo(str(biz.compact()))


@app.command()
def move(
    source: Annotated[Path, typer.Argument(help="The business's directory.")],
    target: Annotated[str, typer.Argument(help="postgresql://user@host/database, with an empty schema.")],
    segments: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Where sealed history goes: s3://bucket/prefix or file:///a/directory."),
    ] = None,
) -> None:
    """Copy a business with all its tenants into PostgreSQL; broken off and run again it goes on where it was."""
    from .move import move as run_move
    from .query.present import to_table
    from .query.text import text_table

    done = run_move(source, target, segments=segments)
    rows = [
        {
            "tenant": moved.tenant or "(none)",
            "records": moved.records,
            "state": moved.state,
            "files": moved.files,
            "bytes": moved.bytes,
        }
        for moved in done
    ]
    typer.echo(text_table(to_table(rows, "moved and compared")))


def main() -> None:
    """Run the command; a BizError is one sentence on standard error, exit code 1."""
    try:
        app()
    except BizError as error:
        typer.echo(f"bizcode: {error}", err=True)
        sys.exit(1)
