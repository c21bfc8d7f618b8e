"""A lake that somebody has damaged: the next run makes it right, or says what to do.

Lakes are local folders. Files and folders of `_etl/` and of the tables are lost, truncated,
restored from an older copy or copied under another name; then the job runs twice.
"""

import contextlib
import random
import re
import shutil
from pathlib import Path

import pytest

import etl
from tests.conftest import run_main
from tests.faults.harness import STUBS, check_no_gap, local_location, published, write_version

DAMAGED_LAKES = 200
HINT = re.compile(r"etl\.py: (.*): this job did not write it; move it")


class Killed(SystemExit):
    """Ends a run as if the machine had lost power."""


def kill(*_):
    raise Killed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("losses")


def run(folder: Path, output: Path, version: int):
    source = folder / f"in-{version}"
    return run_main("--input", source, "--output", output, output=output)


@pytest.fixture(scope="module")
def days(folder):
    """Copies of one lake from several days, each with the version of the input of that day."""
    lake = folder / "lake"
    days = []
    # day -> the function of etl that the run of that day does not survive
    ends = {1: "", 2: "", 3: "publish", 4: "abandoned_staging", 5: "", 6: "make_commit", 7: ""}
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in STUBS.items():
            patch.setattr(etl, name, stub)
        for version, end in ends.items():
            write_version(folder / f"in-{version}", version)
            with patch.context() as night, contextlib.suppress(Killed):
                if end:
                    night.setattr(etl, end, kill)
                assert run(folder, lake, version).code == 0
            shutil.copytree(lake, folder / f"day-{version}")
            days.append((version, folder / f"day-{version}"))
        yield days


def below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if folder.is_dir() else []


def truncate(chance: random.Random, path: Path, older: Path) -> None:
    for file in [path, *below(path)]:
        if file.is_file() and (file == path or chance.random() < 0.5):
            data = file.read_bytes()
            file.write_bytes(data[: chance.randrange(len(data) + 1)])


def lose(chance: random.Random, path: Path, older: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy_half(chance: random.Random, path: Path, older: Path) -> None:
    """Some files of an older copy are restored over what is there."""
    for file in below(older):
        target = path / file.relative_to(older)
        if file.is_file() and chance.random() < 0.5:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)


def copy_beside(chance: random.Random, path: Path, older: Path) -> None:
    """As a program that syncs folders leaves it when two machines have written the same file."""
    twin = path.with_name(f"{path.stem} (1){path.suffix}")
    shutil.copytree(path, twin, dirs_exist_ok=True) if path.is_dir() else shutil.copy(path, twin)


WAYS = (lose, truncate, copy_half, copy_beside)


def damage(chance: random.Random, lake: Path, days: list) -> str:
    """Somebody damages a file or folder; what was done, in words."""
    path = chance.choice([lake, *below(lake)])
    name = path.relative_to(lake)
    version, day = chance.choice(days)
    way = chance.choice(WAYS)
    if path != lake or way != copy_beside:
        way(chance, path, day / name)
    return f"{way.__name__} {name} (day {version})"


def test_after_any_loss_the_rows_are_right_or_what_to_do_is_said_and_helps(days, folder):
    for seed in range(DAMAGED_LAKES):
        chance = random.Random(seed)
        version, day = chance.choice(days)
        lake = folder / "damaged"
        shutil.rmtree(lake, ignore_errors=True)
        shutil.copytree(day, lake)
        story = [f"seed {seed}, day {version}"]
        for _ in range(chance.randint(1, 3)):
            story.append(damage(chance, lake, days))
        # the next day has new input, or the same again
        today = chance.choice((version, 7))
        for _ in range(2):
            result = run(folder, lake, today)
            moved = 0
            while result.code == etl.SETTINGS:
                named = HINT.search(result.err)
                assert named, (story, result.err)
                shutil.move(named[1], folder / f"moved-{seed}-{moved}")
                moved += 1
                result = run(folder, lake, today)
            assert result.code == 0, (story, result.code, result.err)
            assert list(published(local_location(lake))["users"]) == [today], story
            check_no_gap(local_location(lake), today)


def test_a_parquet_file_of_somebody_else_stops_the_run_and_nothing_is_deleted(days, folder):
    lake = shutil.copytree(folder / "day-3", folder / "foreign")
    (lake / "users" / "mine.parquet").write_bytes(b"PAR1")
    before = sorted(lake.rglob("*"))
    result = run(folder, lake, 7)
    assert (result.code, f"{lake}/users/mine.parquet" in result.err) == (etl.SETTINGS, True)
    assert set(before) <= set(lake.rglob("*"))


def test_a_run_that_has_nothing_to_do_removes_what_other_runs_left(days, folder):
    """Staging of runs that can no longer commit goes, that of a run at work stays."""
    lake = shutil.copytree(folder / "day-7", folder / "leftovers")
    number = etl.newest_commit(local_location(lake))["commit"]
    started = f"{etl.datetime.now(etl.UTC):%Y%m%dT%H%M%SZ}"
    over = (
        f"{number - 1:09d}-{started}-00000000",
        f"{number:09d}-{started}-00000000",
    )
    at_work = f"{number + 1:09d}-{started}-00000000"
    for name in (*over, at_work):
        (lake / "_etl" / "staging" / name).mkdir(parents=True)
        (lake / "_etl" / "staging" / name / "part-0.parquet").touch()
    result = run(folder, lake, 7)
    assert "Nothing to do" in result.out
    assert [path.name for path in (lake / "_etl" / "staging").iterdir()] == [at_work]
