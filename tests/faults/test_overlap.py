"""Runs that overlap on one OUTPUT, and runs that sleep while others work."""

import time

import pytest
from harness import WHOLE, Child, published, write_version
from helpers import files_below

import etl


class Runs:
    """Starts runs on one OUTPUT, each with its own input, so that rows tell whose they are."""

    def __init__(self, folder):
        self.folder, self.count = folder, 0
        self.lake = folder / "out"

    def start(self, **options):
        self.count += 1
        write_version(self.folder / f"in {self.count}", self.count)
        return Child(
            self.folder,
            "--input",
            self.folder / f"in {self.count}",
            "--output",
            self.lake,
            **options,
        )

    def tables(self):
        return published(etl.open_place(f"file://{self.lake}", None, None))

    def table_files(self):
        return {
            name: file
            for name, file in files_below(self.lake).items()
            if not name.startswith("_etl")
        }


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


@pytest.mark.parametrize("together", [2, 5])
@pytest.mark.parametrize("apart", [0, 0.02, 0.05])
def test_of_runs_at_once_one_commits_at_a_time_and_the_tables_are_its(runs, together, apart):
    for _ in range(4):
        children = []
        for _ in range(together):
            children.append(runs.start())
            time.sleep(apart)
        ends = [child.end() for child in children]
        assert any(code == 0 for code, _ in ends), ends
        for code, said in ends:
            assert code in (0, 75) or "publication unfinished; run again" in said, said
        assert runs.start().end()[0] == 0
        assert all(versions == {runs.count: WHOLE} for versions in runs.tables().values())
        assert not list(runs.lake.glob("_etl/staging/*")) and not list(
            runs.lake.glob("_etl/probes/*")
        )
    commits = sorted(int(path.stem) for path in runs.lake.glob("_etl/commits/*"))
    assert commits == list(range(1, len(commits) + 1))


@pytest.mark.parametrize(
    ("pause", "code"),
    [(("commit", 1), 75), (("publish", 1), 0), (("superseded", 2), 0), (("clean", 2), 0)],
    ids=[
        "before its commit",
        "before it publishes",
        "between copies and deletes",
        "before it cleans up",
    ],
)
def test_a_run_that_sleeps_while_another_finishes_changes_nothing_that_readers_see(
    runs, pause, code
):
    assert runs.start().end()[0] == 0
    sleeper = runs.start(pause=pause)
    sleeper.wait_until_stopped()
    assert runs.start().end()[0] == 0
    before = runs.table_files()
    sleeper.wake()
    ended, said = sleeper.end()
    assert ended == code, said
    assert runs.table_files() == before
    assert all(versions == {3: WHOLE} for versions in runs.tables().values())
