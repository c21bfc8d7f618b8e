"""A lake that somebody has damaged: the next run makes it right, or says what to do.

Lakes are local folders. Files and folders of `_etl/` and of the tables are lost, truncated,
restored from an older copy, copied halfway or under another name; then the job runs twice.
"""

import contextlib
import io
import random
import re
import shutil
from pathlib import Path

import pytest
from harness import build, check_no_gap, published, write_version

import etl

DAMAGED_LAKES = 500
REMEDY = re.compile(r"etl\.py: file://(.*): (a file stands where|not written by).*; move it")


class Killed(SystemExit):
    """Ends a run as if the machine had lost power."""


def kill(*_):
    raise Killed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("losses")


def run(folder: Path, output: Path, version: int) -> tuple[int, str]:
    """Exit code of a run on one version of the input, and what it says on stderr."""
    said = io.StringIO()
    arguments = ["--input", str(folder / f"in-{version}"), "--output", str(output)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = etl.main(arguments)
    return code, said.getvalue()


@pytest.fixture(scope="module")
def days(folder):
    """Copies of one lake from several days, each with the version of the input of that day."""
    lake = folder / "lake"
    days = []
    # day -> the function of etl that the run of that day does not survive
    ends = {1: "", 2: "", 3: "publish", 4: "superseded", 5: "", 6: "commit", 7: ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(etl, "check_java", lambda: None)
        patch.setattr(etl, "build", build)
        for version, end in ends.items():
            write_version(folder / f"in-{version}", version)
            with patch.context() as night:
                if end:
                    night.setattr(etl, end, kill)
                with contextlib.suppress(Killed):
                    assert run(folder, lake, version)[0] == 0
            shutil.copytree(lake, folder / f"day-{version}")
            days.append((version, folder / f"day-{version}"))
        yield days


def below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if folder.is_dir() else []


def truncate(chance: random.Random, path: Path) -> None:
    for file in [path, *below(path)]:
        if file.is_file() and (file == path or chance.random() < 0.5):
            data = file.read_bytes()
            file.write_bytes(data[: chance.randrange(len(data) + 1)])


def lose(chance: random.Random, path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def restore(chance: random.Random, path: Path, older: Path) -> None:
    lose(chance, path)
    if older.is_dir():
        shutil.copytree(older, path)
    elif older.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(older, path)


def copy_half(chance: random.Random, path: Path, older: Path) -> None:
    """Some files of the older copy come beside what is there."""
    for file in below(older):
        target = path / file.relative_to(older)
        if file.is_file() and chance.random() < 0.5:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)


def copy_beside(chance: random.Random, path: Path) -> None:
    """As a program that syncs folders leaves it when two machines have written the same file."""
    twin = path.with_name(f"{path.stem} (1){path.suffix}")
    shutil.copytree(path, twin, dirs_exist_ok=True) if path.is_dir() else shutil.copy(path, twin)


def make_a_file(chance: random.Random, path: Path) -> None:
    if path.is_dir():
        lose(chance, path)
        path.write_bytes(b"a link that became text")


def damage(chance: random.Random, lake: Path, days: list) -> str:
    """Somebody damages a file or folder; what was done, in words."""
    path = chance.choice([lake, *below(lake)])
    name = path.relative_to(lake)
    version, day = chance.choice(days)
    way = chance.choice((lose, truncate, restore, copy_half, copy_beside, make_a_file))
    if path == lake and way in (copy_beside, make_a_file):
        return "nothing"
    if way in (restore, copy_half):
        way(chance, path, day / name)
    else:
        way(chance, path)
    return f"{way.__name__} {name} (day {version})"


@pytest.mark.parametrize("block", range(10))
def test_after_any_loss_the_rows_are_right_or_a_remedy_is_named_and_helps(days, folder, block):
    for seed in range(block, DAMAGED_LAKES, 10):
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
            remedies = 0
            code, said = run(folder, lake, today)
            while code == etl.SETTINGS:
                named = REMEDY.search(said)
                assert named, (story, said)
                shutil.move(named[1], folder / f"moved-{seed}-{remedies}")
                remedies += 1
                code, said = run(folder, lake, today)
            assert code == 0, (story, code, said)
            for table, versions in published(etl.open_place(f"file://{lake}", None, None)).items():
                assert list(versions) == [today], (story, table, versions)
                check_no_gap(versions, [today])
