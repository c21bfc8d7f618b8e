"""Real runs that overlap on one OUTPUT, and runs that sleep while others work."""

import signal
import time

import pytest

import etl
from tests.faults.harness import Child, check_is, local_location, write_version
from tests.helpers import files_below


class Runs:
    """Starts runs on one OUTPUT, each with its own input, so that rows tell whose they are."""

    def __init__(self, folder):
        self.folder = folder
        self.count = 0
        self.output = folder / "out"
        self.lake = local_location(self.output)

    def start(self, **options):
        self.count += 1
        source = self.folder / f"in {self.count}"
        write_version(source, self.count)
        return Child(self.folder, "--input", source, "--output", self.output, **options)

    def table_files(self):
        files = files_below(self.output)
        return {name: file for name, file in files.items() if not name.startswith("_etl")}


@pytest.fixture
def runs(tmp_path):
    (tmp_path / "out").mkdir()
    return Runs(tmp_path)


@pytest.mark.parametrize("together", [2, 5])
def test_of_runs_at_once_one_commits_at_a_time_and_the_tables_are_its(runs, together):
    codes = []
    for apart in (0, 0.02, 0.05):
        for _ in range(3):
            children = []
            for _ in range(together):
                children.append(runs.start())
                time.sleep(apart)
            ends = [child.end() for child in children]
            assert any(code == 0 for code, _ in ends), ends
            assert all(code in (0, 75) for code, _ in ends), ends
            codes += [code for code, _ in ends]
            assert runs.start().end()[0] == 0
            check_is(runs.lake, runs.count)
    assert 75 in codes
    commits = etl.commit_numbers(runs.lake)
    assert commits == list(range(len(commits), 0, -1))


@pytest.mark.parametrize(
    ("step", "expected"),
    [("make_commit", 75), ("publish", 0), ("move", 0), ("delete", 0), ("end_run", 0)],
)
def test_a_run_that_sleeps_while_another_finishes_changes_nothing_that_readers_see(
    runs, step, expected
):
    assert runs.start().end()[0] == 0
    sleeper = runs.start(at=(signal.SIGSTOP, 1, step))
    sleeper.wait_until_stopped()
    assert runs.start().end()[0] == 0
    before = runs.table_files()
    sleeper.wake()
    code, said = sleeper.end()
    assert code == expected, said
    assert runs.table_files() == before
    check_is(runs.lake, 3)
