# SPDX-License-Identifier: Apache-2.0
"""Ratios as a picture: a block for each operation, a line for each way, a column for each workload."""
import math
from xml.sax.saxutils import escape

LABEL_WIDTH, COLUMN_WIDTH, COLUMN_GAP, MARGIN = 240, 230, 20, 16
LINE_HEIGHT, TITLE_HEIGHT, BLOCK_GAP, HEADER_HEIGHT = 17, 32, 14, 100
BAR_COLOURS = {True: "#1f6feb", False: "#9aa4b2"}
TEXT_COLOUR, QUIET_COLOUR, GRID_COLOUR = "#1c2128", "#59636e", "#e4e7eb"


def text(x, y, content, anchor="start", size=11, colour=TEXT_COLOUR, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
            f'fill="{colour}">{escape(content)}</text>')  # fmt: skip


def rectangle(x, y, width, height, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def vertical(x, top, bottom, colour):
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{colour}"/>'


class Scale:
    """From the least ratio, or 0.01, to the greatest, over a column's width but for the figures."""

    def __init__(self, ratios):
        self.low = max(-2, math.log10(min([*ratios, 0.5])))
        self.high = math.log10(max([*ratios, 2]))

    def x(self, ratio):
        return (COLUMN_WIDTH - 34) * (max(math.log10(ratio), self.low) - self.low) / (self.high - self.low)

    def ticks(self):
        return [10.0**power for power in range(math.ceil(self.low), math.floor(self.high) + 1)]


def bar(x0, y, scale, line):
    one, end = scale.x(1), scale.x(line["ratio"])
    n_digits = 3 if line["ratio"] < 0.1 else 2 if line["ratio"] < 10 else 0
    figure = f"{line['ratio']:.{n_digits}f}"
    colour = TEXT_COLOUR if line["ours"] else QUIET_COLOUR
    return [
        rectangle(x0 + min(one, end), y - 10, max(abs(end - one), 1.5), 12, BAR_COLOURS[line["ours"]]),
        text(x0 + max(one, end) + 4, y, figure, colour=colour, size=10),
    ]


def block(y, title, of_op, columns, scale):
    """The block's elements, and where it ends."""
    names = list(dict.fromkeys(line["plugin"] for line in of_op))
    bottom = y + TITLE_HEIGHT + len(names) * LINE_HEIGHT
    elements = [text(MARGIN, y + 12, title, size=12, weight="bold")]
    for workload, x0 in columns.items():
        for tick in scale.ticks():
            elements.append(vertical(x0 + scale.x(tick), y + TITLE_HEIGHT, bottom, GRID_COLOUR))
        elements.append(vertical(x0 + scale.x(1), y + TITLE_HEIGHT, bottom, QUIET_COLOUR))
        limits = [line for line in of_op if line["workload"] == workload]
        if limits:
            said = f"1 = {limits[0]['limit']}, {limits[0]['limit_median_s'] * 1e3:.3g} ms"
            elements.append(text(x0, y + 26, said, size=9, colour=QUIET_COLOUR))
    for i, name in enumerate(names):
        at = y + TITLE_HEIGHT + (i + 1) * LINE_HEIGHT - 5
        lines = [line for line in of_op if line["plugin"] == name]
        elements.append(text(MARGIN + 8, at, name, colour=TEXT_COLOUR if lines[0]["ours"] else QUIET_COLOUR))
        for line in lines:
            elements += bar(columns[line["workload"]], at, scale, line)
    return elements, bottom + BLOCK_GAP


def header(columns, sizes, scale, caption):
    elements = [text(MARGIN, 24 + 15 * i, line, colour=QUIET_COLOUR) for i, line in enumerate(caption)]
    for workload, x0 in columns.items():
        elements.append(text(x0, HEADER_HEIGHT - 18, workload, size=12, weight="bold"))
        elements.append(text(x0 + 46, HEADER_HEIGHT - 18, sizes[workload], colour=QUIET_COLOUR, size=10))
        for tick in scale.ticks():
            elements.append(text(x0 + scale.x(tick), HEADER_HEIGHT - 3, f"{tick:g}", "middle", 9, QUIET_COLOUR))
    return elements


def draw(lines, ops, sizes, caption):
    """`lines` as compare.py has them; titles of operations, sizes of workloads, lines of text above it all."""
    scale = Scale([line["ratio"] for line in lines])
    step = COLUMN_WIDTH + COLUMN_GAP
    columns = {workload: MARGIN + LABEL_WIDTH + i * step for i, workload in enumerate(sizes)}
    elements, y = header(columns, sizes, scale, caption), HEADER_HEIGHT + 8
    for op, title in ops.items():
        of_op = [line for line in lines if line["op"] == op]
        if of_op:
            more, y = block(y, title, of_op, columns, scale)
            elements += more
    width, height = MARGIN + LABEL_WIDTH + len(columns) * step, y
    return "\n".join([
        "<!-- SPDX-License-Identifier: Apache-2.0 -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif">',
        rectangle(0, 0, width, height, "#ffffff"),
        *elements,
        "</svg>\n",
    ])  # fmt: skip
