"""analytics/analytics.ipynb runs from top to bottom."""

import nbformat
from nbclient import NotebookClient

from tests.helpers import KEY, ROOT, SECRET, upload_folder


def test_every_cell_runs_on_s3_and_prints_nothing_on_stderr(sample_tables, s3, monkeypatch):
    upload_folder(s3.bucket("notebook"), sample_tables, "notebook", "lake/")
    monkeypatch.setenv("OUTPUT", "s3a://notebook/lake")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    notebook = nbformat.read(ROOT / "analytics" / "analytics.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    resources = {"metadata": {"path": str(ROOT / "analytics")}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs = [shown for cell in notebook.cells for shown in cell.get("outputs", [])]
    assert [shown.text for shown in outputs if shown.get("name") == "stderr"] == []
    printed = "".join(shown.get("text", "") for shown in outputs)
    assert "commit 1 of s3a://notebook/lake\n" in printed
    # what Spark shows
    assert "|gender|count|" in printed
    # charts, as widgets that need no network
    kinds = [kind for shown in outputs for kind in shown.get("data", {})]
    assert kinds.count("application/vnd.jupyter.widget-view+json") == 3
    assert kinds.count("image/svg+xml") == 1
