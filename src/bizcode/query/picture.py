"""A drawn chart: shown in a notebook, saved as PNG, SVG or HTML, all without a network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from ..errors import BizError, InvalidQuery, StorageError

__all__ = ["Picture", "altair", "styled", "wall"]

BLUE, GHOST, INK, FAINT, GRID, GREEN, AMBER, RED = (
    "#2f5bea",
    "#c3cad8",
    "#1b2333",
    "#6b7385",
    "#e8ebf1",
    "#17936b",
    "#e0912f",
    "#d6404a",
)
PALETTE = [BLUE, "#f08c2e", GREEN, "#c2417f", "#7a5cd6", "#0fa3c2", "#8f6b35", "#7d8799"]
FONT = "Inter, Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
_ENDINGS = ("png", "svg", "html", "pdf")


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """A chart. `chart` is the altair chart itself, to go on with."""

    chart: Any
    title: str = ""

    def save(self, path: str | os.PathLike[str], scale: float = 2.0) -> Path:
        """Write it as the path's ending says: .png, .svg, .pdf, or .html, which needs no network to show.

        Args:
            path: where to.
            scale: pixels per point of a PNG.
        Returns:
            The path.
        Raises:
            InvalidQuery: another ending. StorageError: the path can't be written. BizError: vl-convert is missing.
        """
        path = Path(path)
        ending = path.suffix.lower().lstrip(".")
        if ending not in _ENDINGS:
            raise InvalidQuery(f"a picture is saved as {', '.join(_ENDINGS)}: {path.name!r} ends otherwise")
        renderer = _renderer()
        spec = self.chart.to_dict()
        try:
            if ending == "png":
                path.write_bytes(renderer.vegalite_to_png(spec, scale=scale))
            elif ending == "pdf":
                path.write_bytes(renderer.vegalite_to_pdf(spec))
            elif ending == "svg":
                path.write_text(renderer.vegalite_to_svg(spec), encoding="utf-8")
            else:
                path.write_text(renderer.vegalite_to_html(spec, bundle=True), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{path} can't be written: {error}") from error
        return path

    def to_dict(self) -> dict[str, Any]:
        """The Vega-Lite specification."""
        return self.chart.to_dict()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"image/svg+xml": _renderer().vegalite_to_svg(self.chart.to_dict()), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f'<chart {self.title!r}: .save("x.png"), .svg, .html or .pdf, .chart for altair>'


def altair() -> Any:
    """The charting library. Raises BizError that names the extra where it is missing."""
    try:
        import altair as alt
    except ImportError as error:
        raise BizError("plot() needs altair: pip install 'bizcode[plot]'") from error
    return alt


def _renderer() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise BizError("saving a picture needs vl-convert: pip install 'bizcode[plot]'") from error
    return vl_convert


def wall(moment: date) -> str:
    """The wall time, as if it were UTC: charts have no zones, and what hangs on the wall is what is meant."""
    if isinstance(moment, datetime):
        return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    return moment.isoformat() + "T00:00:00Z"


def styled(chart: Any, title: str, subtitle: str = "") -> Picture:
    """The house's look, and the title above."""
    alt = altair()
    heading = alt.Title(
        title,
        subtitle=subtitle or alt.Undefined,
        anchor="start",
        frame="group",
        fontSize=17,
        fontWeight=600,
        color=INK,
        subtitleColor=FAINT,
        subtitleFontSize=12,
        offset=18,
    )
    made = (
        chart.properties(title=heading, padding={"left": 22, "top": 20, "right": 26, "bottom": 20})
        .configure(font=FONT, background="white")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=FAINT,
            titleColor=FAINT,
            titleFontWeight="normal",
            gridColor=GRID,
            domain=False,
            ticks=False,
            labelFontSize=11.5,
            titleFontSize=11.5,
            labelPadding=7,
            labelLimit=240,
        )
        .configure_legend(
            labelColor=INK, labelFontSize=12, symbolType="circle", title=None, orient="top", offset=6
        )
        .configure_header(
            labelColor=INK, labelFontSize=13, labelFontWeight=600, labelAnchor="start", title=None
        )
    )
    return Picture(made, title)
