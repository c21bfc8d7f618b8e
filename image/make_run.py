"""Draws a run on a terminal: python etl.py 2>/dev/null | python image/make_run.py > image/run.svg"""

import html
import sys


def draw(lines):
    """The lines as text on a dark terminal, in SVG."""
    width, height = 8.5 * max(map(len, lines)) + 40, 20 * len(lines) + 70
    texts = [
        html.escape(line).replace(" ", "\u00a0") for line in lines
    ]  # browsers fold other blanks
    rows = "".join(
        f'<text x="20" y="{62 + 20 * row}">{text}</text>' for row, text in enumerate(texts)
    )
    dots = "".join(
        f'<circle cx="{22 + 20 * n}" cy="20" r="6" fill="{c}"/>'
        for n, c in enumerate(("#f55", "#fb3", "#3c5"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}"><rect width="100%" height="100%" rx="10" fill="#1e2127"/>{dots}<g font-family="monospace" '
        f'font-size="14" fill="#d7dae0">{rows}</g></svg>'
    )


if __name__ == "__main__":
    print(draw(["$ python etl.py", *sys.stdin.read().splitlines()]))
