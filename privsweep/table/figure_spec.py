"""A figure of a paper as data: which cells of the experiment's table it draws, and how."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from privsweep.table.strict import Id, Name, Strict

Which = Literal["first", "easiest", "hardest"]
Hue = Annotated[int, Field(ge=0, le=7)]


class Series(Strict):
    """What has one colour and one entry in the legend. In a chart it has one column per place, null for a gap."""

    label: str
    columns: Annotated[list[Id | None], Field(min_length=1)]
    hue: Hue | None = None  # of eight colours; by default the position in the panel
    dashed: bool = False
    row: Id | None = None  # in place of the figure's
    value: Name | None = None  # of curves and histograms: in place of the figure's
    only: Name | None = None  # of histograms: a column of truth values, of victims that count; not_<column>: the others


class Panel(Strict):
    """One pair of axes, or one block of pictures."""

    title: str
    series: Annotated[list[Series], Field(min_length=1)]
    ylabel: str | None = None  # of charts: where it is another than the figure's, and so the axis


class _Figure(Strict):
    row: Id  # of the table: the numbers that are drawn, and the runs behind them
    panels: Annotated[Sequence[Panel], Field(min_length=1)]

    def places(self) -> int:
        """How many columns a series has."""
        return 1

    def row_of(self, series: Series) -> Id:
        """The row whose numbers a series draws."""
        return series.row or self.row

    def columns(self) -> Iterator[Id]:
        """Every column that is drawn."""
        return (column for _, column in self.cells())

    def cells(self) -> Iterator[tuple[Id, Id]]:
        """Every row and column that is drawn."""
        for panel in self.panels:
            for series in panel.series:
                yield from ((self.row_of(series), column) for column in series.columns if column is not None)

    def fault(self, rows: Collection[str], columns: Collection[str]) -> str | None:
        """What does not fit the table, in one line, or None."""
        if self.row not in rows:
            return f"figure.row={self.row}: the table has no such row; there are {', '.join(rows)}"
        for p, panel in enumerate(self.panels):
            for s, series in enumerate(panel.series):
                if self.row_of(series) not in rows:
                    place = f"figure.panels.{p}.series.{s}.row={series.row}"
                    return f"{place}: the table has no such row; there are {', '.join(rows)}"
                where = f"figure.panels.{p}.series.{s}.columns"
                if len(series.columns) != self.places():
                    return f"{where}: are {len(series.columns)}, but must be {self.places()}"
                if strange := [c for c in series.columns if c is not None and c not in columns]:
                    return f"{where}: the table has no column {strange[0]}; there are {', '.join(columns)}"
        return None


class Chart(_Figure):
    """A row's numbers over an axis.

    ``bars`` and ``lines``: mean and standard deviation over seeds. ``boxes``: the distribution over the
    victims of all seeds, from ``victims.csv``: quartiles, and whiskers from the 5th to the 95th percentile.
    Numbers on the x-axis stand at their values, words side by side. Printed numbers are drawn beside ours.
    """

    kind: Literal["bars", "lines", "boxes"]
    x: Annotated[list[str | float], Field(min_length=1)]
    xlabel: str
    ylabel: str
    ylim: tuple[float, float] | None = Field(default=None, strict=False)  # null: as the numbers require
    logarithmic: bool = False  # the vertical axis

    def places(self) -> int:
        return len(self.x)


class Curves(_Figure):
    """A column of ``training.csv`` by round (in central training, by epoch): mean, lowest and highest over seeds."""

    kind: Literal["curves"]
    value: Name
    xlabel: str
    ylabel: str
    percent: bool = False  # values are shares, drawn in percent


class Histogram(_Figure):
    """How many victims of all seeds have which value of a column of ``victims.csv``, a histogram for each series."""

    kind: Literal["histogram"]
    value: Name
    bins: Annotated[int, Field(ge=1, le=200)]  # of equal width, over all series of a panel
    xlabel: str
    ylabel: str


class PicturePanel(Panel):
    """A block of pictures, of victims of its own."""

    which: Which = "first"  # by the MSE of its first series that is stored


class Pictures(_Figure):
    """Originals on top, below them the same victims' reconstructions, one line per series, all of the first seed.

    Below every reconstruction stands the row's number for that victim, from ``victims.csv``. A panel shows the first
    victims, or those with the least MSE, the least first, or those with the greatest, the greatest first.
    """

    kind: Literal["pictures"]
    panels: Annotated[Sequence[PicturePanel], Field(min_length=1)]
    victims: Annotated[int, Field(ge=1, le=32)]  # so many in a panel, and the first image of each


class Heatmap(_Figure):
    """A row's numbers over two axes, one map for each panel, all in one scale of colours.

    A series is a line of the map: ``label`` names its place on the vertical axis, and its columns stand below the
    entries of ``x``, null for a gap. In every cell stand the mean over seeds and the sample standard deviation.

    With ``victim`` a second grid stands beside, laid out alike: that victim's reconstructions in the first seed, each
    with its own number below it, and the original. So one figure shows both how much leaks and what.
    """

    kind: Literal["heatmap"]
    x: Annotated[list[str | float], Field(min_length=1)]
    xlabel: str
    ylabel: str
    limits: tuple[float, float] | None = Field(default=None, strict=False)  # of the colours; null: lowest and highest
    victim: Annotated[int, Field(ge=0)] | None = None  # counted from 0, and the first image of it; null: no pictures

    def places(self) -> int:
        return len(self.x)

    def fault(self, rows: Collection[str], columns: Collection[str]) -> str | None:
        own = ((p, s, one.row) for p, panel in enumerate(self.panels) for s, one in enumerate(panel.series) if one.row)
        for p, s, row in own:
            return f"figure.panels.{p}.series.{s}.row={row}: a heatmap has one row, figure.row; leave it out"
        return super().fault(rows, columns)


Figure = Annotated[Chart | Curves | Histogram | Pictures | Heatmap, Field(discriminator="kind")]
