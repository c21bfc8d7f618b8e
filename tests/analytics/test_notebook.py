"""analytics/analytics.ipynb runs from top to bottom."""

import json

import nbformat
from helpers import KEY, ROOT, SECRET
from nbclient import NotebookClient


def run_notebook():
    """Its code cells, with their outputs."""
    notebook = nbformat.read(ROOT / "analytics" / "analytics.ipynb", as_version=4)
    resources = {"metadata": {"path": str(ROOT / "analytics")}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def upload(s3, folder, bucket):
    client = s3.bucket(bucket)
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), bucket, f"lake/{path.relative_to(folder)}")
    return f"s3a://{bucket}/lake"


def test_it_is_committed_without_outputs():
    notebook = json.loads((ROOT / "analytics" / "analytics.ipynb").read_text())
    assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_every_cell_runs_on_s3_and_prints_nothing_on_stderr(sample_tables, s3, monkeypatch):
    output = upload(s3, sample_tables, "notebook")
    monkeypatch.setenv("OUTPUT", output)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    cells = run_notebook()
    outputs = [shown for cell in cells for shown in cell.outputs]
    assert [shown.text for shown in outputs if shown.get("name") == "stderr"] == []
    assert cells[0].outputs[-1].text == f"commit 1 of {output}\n"
    # the charts, but for the report's, bring the JavaScript that shows their tooltips
    pages = [shown.data["text/html"] for shown in outputs if "vegaEmbed" in str(shown.get("data"))]
    assert len(pages) == 3
    assert not any("https://cdn" in page for page in pages)
    assert any("|gender|count|" in shown.get("text", "") for shown in outputs)
