"""The job in a simulation: etl.py on the store of a World, and its schedules."""

import os
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace

from greenlet import getcurrent
from sim import TABLES, Broken, Place, Process, World

import etl


def load(*changes: tuple[str, str]) -> ModuleType:
    """A copy of etl for simulations: its store, input, Spark and clock are those of `job.world`.

    Each change replaces a text of etl.py by another one.
    """
    text = Path(etl.__file__).read_text()
    for old, new in changes:
        assert text.count(old) == 1, f"etl.py has this {text.count(old)} times: {old}"
        text = text.replace(old, new)
    job = ModuleType("etl_in_a_simulation")
    # dataclasses look for the module of a class there
    sys.modules[job.__name__] = job
    # the job reads its own code; nobody needs that here
    job.__file__ = os.devnull
    exec(compile(text, "etl.py", "exec"), job.__dict__)

    place = Place.uri
    settings = job.Settings({}, place, place, "year", Fraction(1, 100), False, False)
    aws = dict.fromkeys(job.KNOWN["AWS"], "")

    def read_settings(arguments):
        force = job.world.chance.random() < 0.3
        return settings._replace(aws=aws, force=force)

    def pin(source, side):
        world = job.world
        run = getcurrent()
        if side == "song_data" and world.chance.random() < world.growth:
            world.version += 1
        listed = world.request("list", side, lambda: world.version)
        if side == "log_data":
            return [job.Pinned("log_data/a.json", 1, "")], 0
        run.version = run.version or listed
        return [job.Pinned(f"song_data/{n}.json", 1, "") for n in range(listed)], 0

    def say(text, **_):
        getcurrent().said += text

    def in_parallel(action, items):
        # the order of a set differs from process to process
        items = sorted(items) if isinstance(items, set) else list(items)
        answers = {}
        error = None
        for number in job.world.chance.sample(range(len(items)), len(items)):
            try:
                answers[number] = action(items[number])
            except Exception as failed:
                error = failed
        if error:
            raise error
        return [answers[number] for number in range(len(items))]

    def stage(table):
        def process(run, *_):
            data = f"{run.id} {getcurrent().version} {table}".encode()
            run.lake.write(f"{run.staging}/{table}/part-0.parquet", data)
            return None, None

        return process

    def audit(run):
        for table in TABLES:
            # the real one reads all rows
            files = run.lake.list(f"{run.staging}/{table}")
            if not files or not run.lake.read(min(files)).endswith(table.encode()):
                raise job.Stop(job.FAILED, f"audit: {table} lacks rows")
        return dict.fromkeys(TABLES, 1)

    def recover(lake, real=job.recover):
        run = getcurrent()
        run.is_publishing = True
        real(lake)
        run.is_publishing = False

    def publish(lake, number, real=job.publish):
        getcurrent().is_publishing = True
        real(lake, number)

    job.COLUMNS = dict.fromkeys(TABLES)
    job.read_settings = read_settings
    job.connect = lambda settings: None
    job.open_place = lambda uri, settings, session: Place(job.world)
    job.check_java = lambda: None
    job.check_names = lambda run: None
    job.say = say
    job.summary = lambda run, code, error: {}
    job.show = lambda report: None
    job.pin = pin
    job.in_parallel = in_parallel
    job.start_spark = lambda run: None
    job.pack_songs = lambda run: 0
    job.open_scratch = lambda run: None
    job.process_song_data = stage("songplays")
    job.process_log_data = stage("users")
    job.process_plays = lambda run, plays, catalog: None
    job.audit = audit
    job.recover = recover
    job.publish = publish
    job.datetime = SimpleNamespace(now=lambda zone: job.world.now())
    job.secrets = SimpleNamespace(token_hex=lambda n: f"{job.world.chance.getrandbits(32):08x}")
    return job


# ── Schedules ──


def four_commits(job: ModuleType) -> tuple[dict[str, bytes], ...]:
    """The store after each of four runs."""
    world = World(job, 0)
    copies = []
    for world.version in (1, 2, 3, 4):
        run = world.start("run")
        world.go()
        assert run.code == 0, run.said
        copies.append(dict(world.files))
    return tuple(copies)


def reader(world: World) -> Callable:
    """Reads what the newest finished commit lists: the rows of that commit, or an error."""

    def read():
        lake = Place(world)
        try:
            commit = world.job.read_commit(lake, world.job.newest(lake, "done"))
            data = [lake.read(key).split() for key in world.job.live_files(commit)]
        except (FileNotFoundError, world.job.BaseError):
            return 0
        is_one_commit = len(data) == len(TABLES) and len({run for run, *_ in data}) == 1
        if not is_one_commit and not world.had_accident:
            raise Broken("a reader of a commit gets other rows than the commit's")
        return 0

    return read


def play(job: ModuleType, seed: int, copies: tuple, is_traced: bool = False) -> list:
    """Some runs at once, in the way that a seed decides, then one or two alone; the exit codes.

    Every third schedule has no faults, and every third has accidents too.

    Raises   AssertionError if a promise is broken
    """
    world = World(job, seed, copies)
    world.is_traced = is_traced
    chance = world.chance
    world.patience = chance.choice((0.5, 0.9, 0.98))
    world.growth = chance.choice((0.1, 0.5, 0.9))
    if seed % 3:
        world.fault_rate = chance.choice((0.003, 0.01, 0.03))
    if seed % 3 == 2:
        world.accident_rate = 0.02
    runs = [world.start(f"run {name}") for name in "abcd"[: chance.randint(2, 4)]]
    world.start("reader", reader(world))
    world.go()
    if seed % 3 == 0:
        check_exits(world, runs)
    mend(world)
    return [run.code for run in runs]


def check_exits(world: World, runs: list[Process]) -> None:
    """Without faults, exit codes say what became of a run."""
    codes = [run.code for run in runs]
    assert set(codes) <= {0, 1, 75}, codes
    assert 0 in codes, codes
    failed = [run.said for run in runs if run.code == 1]
    assert all("publication unfinished" in said for said in failed), failed
    if 1 not in codes:
        assert world.newest("done") == world.newest("commits"), (
            "a commit is unfinished, and nobody said so"
        )
        assert len(world.found) == 1, "a mixture is left, and nobody said so"


def mend(world: World) -> int:
    """Once nothing goes wrong any longer, one run or two leave the lake whole; how many it took."""
    while world.late:
        world.arrive()
    had_accident = world.had_accident
    world.calm()
    world.had_accident = had_accident
    world.is_calm = False
    world.seconds += 2 * 24 * 3600
    codes = []
    for name in ("last but one", "last"):
        run = world.start(name)
        world.go()
        codes.append(run.code)
        if run.code == 0 and world.is_settled():
            return len(codes)
    raise AssertionError(f"two runs, which exit {codes}, do not mend it: {dict(world.found)}")


if __name__ == "__main__":
    job = load()
    play(job, int(sys.argv[1]), four_commits(job), is_traced=True)
