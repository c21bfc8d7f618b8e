"""A copy of the project, as a newcomer has it after the first commands of README.md."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import make_run
import pytest
from helpers import ROOT


class Project(NamedTuple):
    folder: Path
    printed: str

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def shell(self, command: str, **variables: str) -> str:
        """What a command prints in the project's folder; this environment's programs come first."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        result = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env={**os.environ, "PATH": path, **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        return result.stdout


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """The project's files in a folder of their own, after `python etl.py`."""
    folder = tmp_path_factory.mktemp("docs") / "sparkify"
    printed = make_run.run_in_a_copy(folder)
    (folder / "analytics").mkdir()
    for source in (ROOT / "analytics").glob("*.sql"):
        (folder / "analytics" / source.name).write_bytes(source.read_bytes())
    return Project(folder, printed)


@pytest.fixture(scope="session")
def pages():
    """Name -> text of every page."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in found}
