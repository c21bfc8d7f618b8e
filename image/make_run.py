"""Draws what a run prints: image/run.svg, from a run over the sample in a copy of the project.

python image/make_run.py
"""

from __future__ import annotations

import html
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What the copy's folder is called in the picture.
EXAMPLE = "/home/you/sparkify"
COPIED = ("etl.py", "dl.cfg", "data/sample")

PAPER = "#1e2127"
INK = "#d7dae0"
PROMPT = "#8bd49c"
BUTTONS = ("#ff5f56", "#ffbd2e", "#27c93f")
LETTER_WIDTH = 8.5
LINE_HEIGHT = 20
MARGIN = 20
TOP = 62


def run_in_a_copy(folder: Path) -> str:
    """What `python etl.py` prints there, on a project that has no tables yet."""
    copy(folder)
    result = subprocess.run(
        [sys.executable, "etl.py"], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    return result.stdout.replace(str(folder), EXAMPLE)


def copy(folder: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)


def draw(command: str, lines: list[str]) -> str:
    """The lines as text in a terminal's window, which is dark on any page."""
    widest = max(len(line) for line in [f"$ {command}", *lines])
    width = LETTER_WIDTH * widest + 2 * MARGIN
    height = TOP + LINE_HEIGHT * (len(lines) + 1)
    shapes = [
        f"<title>{html.escape(command)} in a terminal</title>",
        f'<rect width="{width:.0f}" height="{height}" rx="10" fill="{PAPER}"/>',
    ]
    for number, color in enumerate(BUTTONS):
        shapes.append(f'<circle cx="{MARGIN + 2 + 20 * number}" cy="20" r="6" fill="{color}"/>')
    shapes.append(text(0, f"$ {command}", f' fill="{PROMPT}"'))
    for number, line in enumerate(lines, 1):
        if line:
            shapes.append(text(number, line))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}"'
        f' width="{width:.0f}" height="{height}" role="img"'
        f' font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14" fill="{INK}">'
    )
    return "\n".join([head, *shapes, "</svg>", ""])


def text(row: int, line: str, style: str = "") -> str:
    # browsers fold blanks, but not those that do not break
    letters = html.escape(line, quote=False).replace(" ", "\u00a0")
    return f'<text x="{MARGIN}" y="{TOP + LINE_HEIGHT * row}"{style}>{letters}</text>'


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        printed = run_in_a_copy(Path(folder))
    picture = draw("python etl.py", printed.rstrip().splitlines())
    target = ROOT / "image" / "run.svg"
    target.write_text(picture, encoding="utf-8")
    print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
