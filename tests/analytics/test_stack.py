"""What of the stack can be tried without Docker: the script that runs before Jupyter starts."""

import os
import subprocess

from tests.helpers import ROOT


def test_the_start_hook_leaves_the_password_for_postgresql_s_clients(tmp_path):
    (tmp_path / "secret").write_text("a:b\\c'd%\n")
    environment = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "PGHOST": "postgres",
        "PGUSER": "sparkify",
        "PGPASSWORD_SECRET": str(tmp_path / "secret"),
    }
    hook = ROOT / "analytics" / "before_notebook.sh"
    subprocess.run(["bash", "-euc", f"source {hook}"], env=environment, check=True)
    assert (tmp_path / ".pgpass").read_text() == "postgres:*:*:sparkify:a\\:b\\\\c'd%\n"
    assert (tmp_path / ".pgpass").stat().st_mode & 0o777 == 0o600
