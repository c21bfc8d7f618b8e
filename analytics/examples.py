"""Makes what the repository shows of the sample: the charts in image/ and the notebook's outputs.

python etl.py && python analytics/examples.py
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from common import needed_packages, run_main

with needed_packages("requirements-dev.txt"):
    import charts
    import nbformat
    from lake import Lake, add_arguments, explain, from_arguments
    from nbclient import NotebookClient
    from report import make_report

HERE = Path(__file__).parent
# Those in docs/analytics.md.
CHARTS = ("plays_by_weekday_and_hour", "top_songs")
NOTEBOOK = HERE / "analytics.ipynb"


def draw_charts(lake: Lake) -> dict[str, str]:
    """File name -> SVG."""
    pictures = make_report(lake).pictures
    found = {}
    for name in CHARTS:
        chart, title = pictures[name]
        svg = charts.svg(chart, charts.WIDE, title)
        found[f"{name}.svg"] = charts.coloured(svg, charts.EITHER)
    return found


def execute_notebook(output: str) -> nbformat.NotebookNode:
    """The notebook with the outputs that these tables give.

    Left out is what differs from run to run: Spark's log, and the version of Python.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    language = dict(notebook.metadata.language_info)
    os.environ["OUTPUT"] = output
    client = NotebookClient(
        notebook,
        timeout=300,
        record_timing=False,
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    notebook.metadata.language_info = language
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
    sys.exit(run_main("examples.py", main, explain))
