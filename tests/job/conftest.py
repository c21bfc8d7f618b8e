"""Runs of all of the job but Spark: `quick` takes a tenth of a second."""

import os

import pytest

from tests.helpers import run_main, without_spark, write_input


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Calls etl.main in the test's own folder, without settings and credentials."""
    monkeypatch.chdir(tmp_path)
    without_spark(monkeypatch.setattr)
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))
    (tmp_path / "dl.cfg").touch()
    return lambda *arguments, output="output": run_main(*arguments, output=tmp_path / output)


@pytest.fixture
def quick(main, tmp_path):
    """Runs the job from `in`, which holds `version 1`, to `output`."""
    quick = lambda *arguments: main("--input", "in", "--output", "output", *arguments)  # noqa: E731
    quick.source = write_input(tmp_path / "in", [b"version 1"], [[b"{}"]])
    return quick


@pytest.fixture
def contents(tmp_path):
    """What each table holds: the contents of its files, as a plain reader sees them."""

    def read(output=tmp_path / "output"):
        return {
            table: [path.read_bytes() for path in sorted((output / table).rglob("*.parquet"))]
            for table in ("songplays", "users", "songs", "artists", "time")
        }

    return read
