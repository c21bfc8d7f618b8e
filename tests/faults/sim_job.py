"""The job in a simulation: etl.py on the store of a World, and its schedules."""

import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

from greenlet import getcurrent

import etl
from tests.faults.sim import TABLES, Broken, Location, Process, World


class SameThread:
    """An executor for greenlets, which threads cannot share."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, action, *given):
        result = action(*given)
        return SimpleNamespace(result=lambda: result)


def load() -> ModuleType:
    """A copy of etl for simulations: its store, input, Spark and clock are those of `job.world`."""
    spec = importlib.util.spec_from_file_location("etl_in_a_simulation", etl.__file__)
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    # the job reads its own code; nobody needs that here
    job.__file__ = os.devnull
    settings = dict.fromkeys(("input", "max_rejected", "dry_run", "verbose"), "")
    settings |= {"output": Location.name, "songs_partition_by": "year"}

    def read_settings(arguments):
        return job.Settings(**settings, force=job.world.chance.random() < 0.3)

    def list_dataset(source, dataset):
        world = job.world
        run = getcurrent()
        if dataset == "song_data" and world.chance.random() < world.growth:
            world.version += 1
        listed = world.request("list", dataset, lambda: world.version)
        if dataset == "log_data":
            return [job.InputObject("log_data/a.json", 1, "")], []
        run.version = run.version or listed
        objects = [job.InputObject(f"song_data/{n}.json", 1, "") for n in range(listed)]
        return objects, []

    def say(text, *_, **__):
        getcurrent().said += f"{text}\n"

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

    def stage(run, table):
        data = f"{run.id} {getcurrent().version} {table}".encode()
        run.lake.write(f"{run.staging}/{table}/part-0.parquet", data)
        run.summary["tables"][table] = {}

    def process_log_data(spark, run):
        stage(run, "users")
        return None, {}

    def process_plays(run, plays, song_records):
        stage(run, "songplays")
        return {}

    def audit(spark, run):
        for table in TABLES:
            # the real one reads all rows
            files = run.lake.list(f"{run.staging}/{table}")
            if not files or not run.lake.read(min(files)).endswith(table.encode()):
                raise job.Stop(job.FAILED, f"audit: {table} lacks rows")

    def reconcile(lake, real=job.reconcile):
        run = getcurrent()
        run.is_publishing = True
        run.looked = job.world.seconds + 1
        result = real(lake)
        # after its commit, a run publishes to its end
        run.is_publishing = run.number > 0
        return result

    job.COLUMNS = dict.fromkeys(TABLES)
    job.ThreadPoolExecutor = SameThread
    job.read_settings = read_settings
    job.open_location = lambda text, settings: Location(job.world)
    job.list_dataset = list_dataset
    job.say = say
    job.show_run = job.show_next_steps = lambda run: None
    job.in_parallel = in_parallel
    job.start_spark = lambda *_: None
    job.pack_objects = lambda *_: None
    job.process_song_data = lambda spark, run: (None, {})
    job.process_log_data = process_log_data
    job.process_plays = process_plays
    job.audit = audit
    job.reconcile = reconcile
    job.datetime = SimpleNamespace(now=lambda zone: job.world.now())
    job.secrets = SimpleNamespace(token_hex=lambda n: f"{job.world.chance.getrandbits(32):08x}")
    return job


# ── Schedules ──


def four_commits(job: ModuleType) -> tuple[dict[str, bytes], ...]:
    """The store after each of four runs."""
    world = World(job, 0)
    copies = []
    for world.version in (1, 2, 3, 4):
        run = world.run_alone("run")
        assert run.code == 0, run.said
        copies.append(dict(world.files))
    return tuple(copies)


def reader(world: World) -> Callable:
    """Reads what the newest commit lists whose files are all there: its rows, or an error."""

    def read():
        lake = Location(world)
        rows = []
        try:
            for number in world.job.commit_numbers(lake):
                commit = world.job.read_commit(lake, number)
                present = world.job.list_tables(lake)
                if commit and not world.job.lost_files(commit["files"], present):
                    rows = [lake.read(key).split() for key in commit["files"]]
                    break
        except (FileNotFoundError, world.job.BaseError):
            # the files moved under its feet, so it reads again
            return 0
        is_one_commit = len(rows) == len(TABLES) and len({run for run, *_ in rows}) == 1
        if rows and not is_one_commit and not world.had_accident:
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
    world.is_local = chance.random() < 0.5
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
    assert set(codes) <= {0, 75}, [(run.code, run.said) for run in runs]
    assert 0 in codes, codes
    assert len(world.found) == 1, "a mixture is left, and nobody said so"


def mend(world: World) -> int:
    """Once nothing goes wrong any longer, one run or two leave the lake whole; how many it took."""
    while world.late:
        world.arrive()
    world.calm()
    world.is_calm = False
    codes = []
    for name in ("last but one", "last"):
        run = world.run_alone(name)
        codes.append(run.code)
        if run.code == 0 and world.is_settled():
            return len(codes)
    raise AssertionError(f"two runs, which exit {codes}, do not mend it: {dict(world.found)}")


if __name__ == "__main__":
    job = load()
    play(job, int(sys.argv[1]), four_commits(job), is_traced=True)
