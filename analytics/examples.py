"""Makes what the repository shows of the sample: the charts in image/ and the notebook's outputs.

python etl.py && python analytics/examples.py
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import nbformat
from lake import Lake, add_arguments, from_arguments, run_main
from nbclient import NotebookClient
from report import draw, make_report, picture

HERE = Path(__file__).parent
CHARTS = ("plays_by_weekday_and_hour", "top_songs")  # those in README.md
NOTEBOOK = HERE / "analytics.ipynb"


def draw_charts(lake: Lake) -> dict[str, str]:
    """File name -> SVG."""
    charts = make_report(lake).charts
    return {f"{name}.svg": picture(draw(*charts[name])) for name in CHARTS}


def execute_notebook(output: str) -> nbformat.NotebookNode:
    """The notebook with the outputs that these tables give, and nothing that differs from run to run."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    language = dict(notebook.metadata.language_info)
    os.environ["OUTPUT"] = output
    client = NotebookClient(
        notebook, timeout=300, record_timing=False, resources={"metadata": {"path": str(HERE)}}
    )
    client.execute()
    notebook.metadata.language_info = language  # which Python ran it is no news
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    lake = from_arguments(parser.parse_args())
    for name, svg in draw_charts(lake).items():
        (HERE.parent / "image" / name).write_text(svg, encoding="utf-8")
    nbformat.write(execute_notebook(lake.uri), NOTEBOOK)


if __name__ == "__main__":
    sys.exit(run_main("examples.py", main))
