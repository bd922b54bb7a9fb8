"""Plots as small SVG files, written by hand: a few lines and dots need no plotting library.

They have a white ground of their own, so that they can be read on a dark page too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

COLOURS: Final = ("#1b6ca8", "#c8553d", "#3a7d44", "#8f6bb3")
_GREY: Final = "#777"
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 26, 30


@dataclass(frozen=True)
class Series:
    """A named line; one that is ``filled`` is an area from zero up, in grey."""

    name: str
    points: Sequence[tuple[float, float]]
    filled: bool = False


@dataclass(frozen=True)
class Panel:
    """Lines over time, on one scale from zero."""

    title: str
    y_title: str
    series: Sequence[Series]
    width: int = 360
    height: int = 170

    def draw(self) -> str:
        """Give the panel's elements."""
        end = max(x for each in self.series for x, _ in each.points)
        top = _round_up(max(y for each in self.series for _, y in each.points))
        x = _scale(0, end, _LEFT, self.width - _RIGHT)
        y = _scale(0, top, self.height - _BOTTOM, _TOP)
        parts = [_text(_LEFT, 15, self.title, weight="bold")]
        for part in range(3):
            value = top * part / 2
            parts.append(_line(_LEFT, y(value), self.width - _RIGHT, y(value), "#ddd"))
            parts.append(_text(_LEFT - 5, y(value) + 4, _short(value), anchor="end", colour=_GREY))
            parts.append(_text(x(end * part / 2), self.height - 14, f"{end * part / 2:g} s", "middle", _GREY))
        parts.append(_text(12, self.height / 2, self.y_title, "middle", _GREY, turned=True))
        for number, each in enumerate(sorted(self.series, key=lambda each: not each.filled)):
            colour = "#ddd" if each.filled else COLOURS[(number - self._areas) % len(COLOURS)]
            parts.append(_shape(each, x, y, colour))
            parts.append(
                _text(_LEFT + 110 * number, self.height - 2, each.name, colour=_GREY if each.filled else colour)
            )
        return "\n".join(parts)

    @property
    def _areas(self) -> int:
        return sum(each.filled for each in self.series)


def panels(panels: Sequence[Panel], columns: int = 2) -> str:
    """Put panels of one size side by side."""
    width, height = panels[0].width, panels[0].height
    places = [(number % columns * width, number // columns * height) for number in range(len(panels))]
    groups = [
        f'<g transform="translate({x},{y})">\n{panel.draw()}\n</g>'
        for panel, (x, y) in zip(panels, places, strict=True)
    ]
    return _document(width * min(columns, len(panels)), height * math.ceil(len(panels) / columns), groups)


def dots(rows: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], unit: str) -> str:
    """Show a few figures a row, on a logarithmic scale."""
    values = [value for _, figures in rows for value in figures]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
    width, left, step = 720, 190, 26
    height = 40 + step * len(rows) + 24
    x = _log_scale(low, high, left, width - 30)
    parts = [
        _text(left + 90 * number, 15, name, colour=COLOURS[number % len(COLOURS)]) for number, name in enumerate(names)
    ]
    for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1):
        parts.append(_line(x(10**exponent), 24, x(10**exponent), height - 22, "#ddd"))
        parts.append(_text(x(10**exponent), height - 8, f"{10**exponent:g} {unit}", "middle", _GREY))
    for number, (name, figures) in enumerate(rows):
        y = 44 + step * number
        parts.append(_text(left - 10, y + 4, name, "end"))
        parts.append(_line(x(min(figures)), y, x(max(figures)), y, "#bbb"))
        parts += [
            f'<circle cx="{x(figure):.1f}" cy="{y}" r="5" fill="{COLOURS[place % len(COLOURS)]}"/>'
            for place, figure in enumerate(figures)
        ]
    return _document(width, height, parts)


def bars(rows: Sequence[tuple[str, float, float]]) -> str:
    """Show ratios against their aims: a bar as long as the ratio is a part of the aim, and a line at the aim."""
    width, left, step = 720, 250, 22
    height = 26 + step * len(rows) + 8
    x = _log_scale(0.05, 10, left, width - 60)
    parts = [_text(x(1), 14, "aim", "middle", _GREY), _line(x(1), 20, x(1), height - 6, _GREY)]
    for number, (name, ratio, aim) in enumerate(rows):
        y, met = 26 + step * number, ratio >= aim
        end = x(min(max(ratio / aim, 0.1), 10))
        parts.append(_text(left - 10, y + 12, name, "end"))
        parts.append(
            f'<rect x="{min(x(1), end):.1f}" y="{y + 2}" width="{abs(end - x(1)):.1f}" height="{step - 8}"'
            f' fill="{COLOURS[2 if met else 1]}"/>'
        )
        place = (end + 5, "start") if met else (end - 5, "end")
        parts.append(_text(place[0], y + 12, f"{ratio:.2f}", place[1], _GREY))
    return _document(width, height, parts)


def _shape(series: Series, x: Callable[[float], float], y: Callable[[float], float], colour: str) -> str:
    points = " ".join(f"{x(across):.1f},{y(up):.1f}" for across, up in series.points)
    if series.filled:
        first, last = x(series.points[0][0]), x(series.points[-1][0])
        return f'<polygon points="{first:.1f},{y(0):.1f} {points} {last:.1f},{y(0):.1f}" fill="{colour}"/>'
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _document(width: float, height: float, parts: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif"'
    ground = f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>'
    return "\n".join([f'{head} font-size="11">', ground, *parts, "</svg>\n"])


def _text(  # noqa: PLR0913, PLR0917 - as SVG has them
    x: float,
    y: float,
    text: str,
    anchor: str = "start",
    colour: str = "#222",
    weight: str = "normal",
    *,
    turned: bool = False,
) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"{turn}>'
        f"{escape(text)}</text>"
    )


def _line(x: float, y: float, to_x: float, to_y: float, colour: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}"/>'


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / ((high - low) or 1) * (end - start)


def _log_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    linear = _scale(math.log(low), math.log(high), start, end)
    return lambda value: linear(math.log(value))


def _round_up(value: float) -> float:
    """Give the next number of one digit, 1, 2, 5 or 8 and zeros."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _short(value: float) -> str:
    return f"{value / 1000:g} k" if value >= 1000 else f"{value:g}"  # noqa: PLR2004 - a thousand
