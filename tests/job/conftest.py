"""Runs of all of the job but Spark: `quick` takes half a second."""

import contextlib
import io

import harness
import pytest
from helpers import Result

import etl


class QuickResult(Result):
    def versions(self):
        """The input's versions that readers find in the tables; all rows of each are there once."""
        found = harness.published(etl.open_place(f"file://{self.output}", None, None))
        for versions in found.values():
            assert all(rows == harness.WHOLE for rows in versions.values()), found
        return {version for versions in found.values() for version in versions}


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Calls etl.main in the test's own folder, where dl.cfg is empty, and returns its Result."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(etl, "build", harness.build)
    (tmp_path / "dl.cfg").touch()

    def run(*arguments, output=None):
        out = io.StringIO()
        err = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = etl.main([str(argument) for argument in arguments])
        return QuickResult(code, out.getvalue(), err.getvalue(), output or tmp_path / "output")

    run.source = tmp_path / "in"
    return run


@pytest.fixture
def quick(main, tmp_path):
    """Runs the job from `in`, whose version is 1, to `output`, with ready-made tables."""
    harness.write_version(tmp_path / "in", 1)

    def run(*arguments):
        return main("--input", "in", "--output", "output", *arguments)

    run.source = tmp_path / "in"
    return run
