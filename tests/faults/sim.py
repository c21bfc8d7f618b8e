"""The real publisher on a simulated store: many runs in one process, in an order that a seed picks.

A World is a store, a clock and an input that grows. Each run is `etl.main` in a greenlet of its
own; before each of its requests another run may get its turn. A request may be refused, may act
without an answer, at once or later, or may be the last that its run makes. Somebody may lose,
truncate or restore files. A seed decides all of this, so the same seed is the same schedule:

    python -m tests.faults.sim_job SEED     prints it, request by request
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType

from greenlet import getcurrent, greenlet

TABLES = ("songplays", "users")
NOTHING = "nothing is published"
LOST = "is lost or damaged"
# where an accident may happen: beginnings of keys
FOLDERS = (
    "_etl/",
    "_etl/commits/",
    "_etl/staging/",
    "users/",
    ("songplays/", "users/"),
)
# what may go wrong with a request; those that die end the run
FATES = ("refused", "lost", "late", "dies after", "dies, late", "dies")


class Died(SystemExit):
    """A run is killed. It is a SystemExit because etl.main turns other exceptions into codes."""


class Broken(SystemExit):
    """What the protocol promises does not hold."""


class Location:
    """An etl.Location in the store of a World: an S3 prefix or a local folder."""

    name = "s3a://bucket/lake"

    def __init__(self, world: "World"):
        self.world = world
        self.files = world.files

    def list(self, prefix: str) -> dict[str, int]:
        """In two pages, now and then: the second shows what became of the store meanwhile."""
        chance = self.world.chance
        cut = chance.choice(sorted(self.files)) if self.files and chance.random() < 0.1 else "~"
        found = self.world.request("list", prefix, lambda: self.page(prefix, "", cut))
        if cut != "~":
            found |= self.world.request("go on", prefix, lambda: self.page(prefix, cut, "~"))
        return found

    def page(self, prefix: str, after: str, last: str) -> dict[str, int]:
        below = f"{prefix}/"
        return {
            key: len(data)
            for key, data in self.files.items()
            if key.startswith(below) and after < key <= last
        }

    def get(self, key: str) -> bytes:
        if key not in self.files:
            raise FileNotFoundError(key)
        return self.files[key]

    def read(self, key: str) -> bytes:
        return self.world.request("read", key, lambda: self.get(key))

    def write(self, key: str, data: bytes) -> None:
        self.world.request("write", key, lambda: self.world.put(key, data))

    def create(self, key: str, data: bytes) -> None:
        """On a local disk a file is there before its content is."""
        run = getcurrent()
        is_local = self.world.is_local
        part = data[: len(data) // self.world.chance.choice((2, len(data)))] if is_local else data

        def act():
            is_new = key not in self.files
            if is_new:
                self.world.put(key, part, run)
            return is_new

        def fill():
            # an open file that somebody deletes has no name any more
            if self.files.get(key) == part:
                self.world.put(key, data, run)

        if self.world.request("create", key, act) and is_local:
            self.world.request("fill", key, fill)

    def move(self, source: str, target: str) -> None:
        """On S3 it is a copy: what it copies may be gone when the copy appears."""
        request = self.world.request
        try:
            if self.world.is_local:
                request("move", source, lambda: self.rename(source, target))
                return
            data = request("copy from", source, lambda: self.get(source))
        except FileNotFoundError:
            return
        request("copy to", target, lambda: self.world.put(target, data))

    def rename(self, source: str, target: str) -> None:
        data = self.get(source)
        del self.files[source]
        self.world.put(target, data)

    def delete(self, key: str) -> None:
        self.world.request("delete", key, lambda: self.world.remove(key))

    def delete_tree(self, prefix: str) -> None:
        for key in self.list(prefix):
            self.delete(key)


class Process(greenlet):
    """A run of the job, or a reader, and how it ended."""

    def __init__(self, world: "World", name: str, action: Callable, plan: dict[int, str]):
        super().__init__()
        self.world = world
        self.name = name
        self.action = action
        # number of a request -> its fate, or "pause" before it, until World.resume
        self.plan = plan
        self.requests = 0
        # None if it was killed
        self.code = None
        self.said = ""
        # how much of the input it has listed; 0 before it does
        self.version = 0
        self.is_publishing = False
        # the number of its commit, and how many requests it had made by then
        self.number = 0
        self.committed_at = 0
        # when it last looked at the newest commit before it reconciled
        self.looked = 0

    def run(self):
        try:
            self.code = self.action()
        except Died:
            pass
        if self.code not in (0, 75):
            # the next run mends what it left
            self.world.is_calm = False
        self.world.running.remove(self)
        self.check()
        self.world.trace("ends with", f"{self.code} {self.said}", self)

    def check(self) -> None:
        """What a run says is true, unless an accident made it false."""
        world = self.world
        if NOTHING in self.said and self.number and not world.had_accident:
            raise Broken(f"{self.name} says that {NOTHING}, and made a commit")
        if LOST in self.said and not world.had_accident:
            raise Broken(f"{self.name} says that a file {LOST}, and nothing was lost")
        # files that are lost after its last look are for the next run to find
        is_sure = world.hit <= self.looked
        if self.code == 0 and self.version and is_sure:
            made = [number for number, version in world.commits if version >= self.version]
            is_superseded = len(made) > 1 or world.had_accident
            is_there = is_superseded or self.version in world.whole_versions()
            if not is_there or not world.has_published(self.number):
                raise Broken(f"{self.name} exits with 0, and its tables are nowhere")


class World:
    def __init__(self, job: ModuleType, seed: int, copies: tuple[dict[str, bytes], ...] = ({},)):
        job.world = self
        self.job = job
        self.chance = random.Random(seed)
        # the store is as the last copy has it; the others are older
        self.copies = list(copies)
        self.files = dict(copies[-1])
        self.is_local = False
        self.running = []
        self.is_traced = False
        newest = self.newest()
        # how much input there is
        self.version = max(newest, 1)
        self.seconds = 0
        # what each file of a table has held since it was first written
        self.contents = {key: data for key, data in self.files.items() if is_table(key)}
        self.is_whole = False
        self.look()
        # number of each commit, and the input that it has seen
        self.commits = [(newest, newest)]
        # requests that act when nobody waits for an answer any longer
        self.late = []
        self.is_late = False
        self.had_accident = False
        self.calm()

    def calm(self) -> None:
        """From here on nothing goes wrong."""
        self.patience = 1.0
        self.fault_rate = 0.0
        self.accident_rate = 0.0
        self.growth = 0.0
        self.is_calm = True
        # when the last accident happened
        self.hit = -1
        self.hit_publication = False
        self.has_lost_rows = False

    # ── The scheduler ──

    def start(self, name: str, action: Callable | None = None, plan: dict | None = None):
        process = Process(self, name, action or self.job.main, plan or {})
        self.running.append(process)
        return process

    def go(self) -> None:
        """Lets all processes take turns until the last has ended."""
        while self.running:
            self.resume(self.chance.choice(self.running))

    def run_alone(self, name: str, plan: dict | None = None) -> Process:
        """A whole run, while others wait."""
        return self.finish(self.start(name, plan=plan))

    def finish(self, process: Process) -> Process:
        while not process.dead:
            self.resume(process)
        return process

    def resume(self, process: Process) -> None:
        """Lets a process go on until it ends, or pauses."""
        try:
            process.switch()
        except Broken as broken:
            for other in list(self.running):
                # one that never had a turn holds nothing
                if other:
                    other.throw(Died)
            raise AssertionError(str(broken)) from None

    def request(self, verb: str, key: str, act: Callable):
        """One request of the current process; what may happen before, to and after it."""
        chance = self.chance
        process = getcurrent()
        self.seconds += 1
        if self.late and chance.random() < 0.1:
            self.arrive()
        if self.accident_rate:
            if chance.random() < self.accident_rate:
                self.copies.append(dict(self.files))
            if chance.random() < self.accident_rate:
                self.accident_rate = 0.0
                for _ in range(chance.randint(1, 3)):
                    self.accident()
        if len(self.running) > 1 and chance.random() > self.patience:
            chance.choice(self.running).switch()
        process.requests += 1
        fate = process.plan.get(process.requests, "answered")
        if fate == "pause":
            process.parent.switch()
            fate = "answered"
        if self.fault_rate and chance.random() < self.fault_rate:
            fate = chance.choice(FATES)
        if fate != "answered":
            self.is_calm = False
        if self.is_traced:
            self.trace(verb, f"{key} {fate if fate != 'answered' else ''}", process)
        if fate in ("answered", "lost", "dies after"):
            answer = act()
            self.check()
        if fate in ("late", "dies, late"):
            self.late.append((verb, key, act))
        if fate.startswith("dies"):
            raise Died
        if fate != "answered":
            raise self.job.BaseError("connection reset by peer")
        return answer

    def arrive(self) -> None:
        """A request that nobody waits for any longer acts."""
        verb, key, act = self.late.pop(self.chance.randrange(len(self.late)))
        self.trace(f"late: {verb}", key)
        self.is_late = True
        try:
            act()
        except FileNotFoundError:
            pass
        self.is_late = False
        self.check()

    def trace(self, verb: str, words, process: Process | None = None) -> None:
        if self.is_traced:
            print(f"{process.name if process else '':>8}  {verb:<10} {words}")

    # ── The store ──

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def put(self, key: str, data: bytes, run: Process | None = None) -> None:
        self.files[key] = data
        if key.startswith("_etl/commits/") and data.endswith(b"}"):
            self.committed(run, json.loads(data))
        if is_table(key):
            if self.contents.setdefault(key, data) != data and not self.had_accident:
                raise Broken(f"a reader gets other bytes under the same name, {key}")
            self.look()

    def remove(self, key: str) -> None:
        if self.files.pop(key, None) is not None and is_table(key):
            self.look()

    def look(self) -> None:
        """What a reader of the table folders finds: how many tables of each run are there."""
        self.found = Counter()
        for key, data in self.files.items():
            if is_table(key):
                table = key.partition("/")[0].encode()
                is_intact = data.endswith(b" " + table)
                self.found[data.removesuffix(table) if is_intact else b"damaged"] += 1
        was_whole = self.is_whole
        self.is_whole = bool(self.whole_versions())
        self.has_lost_rows = was_whole and not self.is_whole

    def whole_versions(self) -> set[int]:
        """Versions of the input of which all tables are there."""
        whole = [run for run, tables in self.found.items() if tables == len(TABLES)]
        return {int(run.split()[1]) for run in whole if run != b"damaged"}

    def committed(self, run: Process, record: dict) -> None:
        earlier = [version for number, version in self.commits if number < record["commit"]]
        self.commits.append((record["commit"], run.version))
        if self.is_late:
            # its run has removed what it had staged
            self.accident_happened()
        run.number = record["commit"]
        run.committed_at = run.requests
        if run.version < max(earlier, default=0) and not self.had_accident:
            raise Broken("a commit was made on top of one that had seen newer input")

    def check(self) -> None:
        """After each request of a run, what must hold at all times."""
        if self.has_lost_rows and not self.hit_publication:
            raise Broken("a reader gets fewer rows")
        if len(self.found) > 1 and self.is_calm and not self.is_publishing():
            raise Broken(f"a reader gets rows twice: {dict(self.found)}")

    def newest(self) -> int:
        keys = [key for key in self.files if key.startswith("_etl/commits/")]
        return max((int(key.rpartition("/")[2][:9]) for key in keys), default=0)

    def has_published(self, number: int) -> bool:
        """Whether all files of a commit of this number or a newer one are there."""
        for key, data in self.files.items():
            is_commit = key.startswith("_etl/commits/") and data.endswith(b"}")
            record = json.loads(data) if is_commit else {"commit": -1}
            if record["commit"] >= number and all(
                len(self.files.get(name, b"")) == file["bytes"]
                for name, file in record["files"].items()
            ):
                return True
        return False

    def is_publishing(self) -> bool:
        return any(process.is_publishing for process in self.running)

    def is_settled(self) -> bool:
        """The tables are just what the newest input makes them, and what is left may be at work."""
        commits = [key for key, data in self.files.items() if data.endswith(b"}")]
        newest = max(key[13:22] for key in ["_etl/commits/", *commits] if "/commits/" in key)
        staged = [key for key in self.files if key.startswith("_etl/staging/")]
        return (
            list(self.found.values()) == [len(TABLES)]
            and self.whole_versions() == {self.version}
            and not any(key[13:22] <= newest for key in staged)
        )

    # ── Accidents ──

    def accident(self) -> None:
        """Somebody loses, truncates or restores some files of a folder."""
        chance = self.chance
        folder = chance.choice(FOLDERS)
        way = chance.choice(("lost", "truncated", "restored", "restored beside"))
        share = chance.choice((0.3, 0.7, 1.0))
        self.damage(folder, way, share, chance.choice(self.copies))

    def damage(
        self, folder: str | tuple[str, ...], way: str, share: float = 1.0, copy: dict | None = None
    ) -> None:
        self.is_calm = False
        # nobody can keep rows that are lost, old and new, while old ones are being removed
        is_removed_late = any(verb == "delete" for verb, *_ in self.late)
        is_hit = folder != "_etl/commits/"
        self.hit_publication |= is_hit and (self.is_publishing() or is_removed_late)
        self.trace(f"{way}:", f"{share} of {folder}")
        if way == "restored":
            self.files_below(folder, self.files, 1.0, self.files.pop)
        if way.startswith("restored"):
            self.files_below(folder, copy, share, lambda key: self.files.update({key: copy[key]}))
        elif way == "lost":
            self.files_below(folder, self.files, share, self.files.pop)
        else:
            self.files_below(folder, self.files, share, self.truncate)
        self.is_whole = False
        self.look()
        self.accident_happened()

    def accident_happened(self) -> None:
        self.had_accident = True
        self.hit = self.seconds

    def truncate(self, key: str) -> None:
        self.files[key] = self.files[key][: len(self.files[key]) // 2]

    def files_below(
        self, folder: str | tuple[str, ...], files: dict, share: float, action: Callable
    ) -> None:
        for key in sorted(files):
            if key.startswith(folder) and self.chance.random() < share:
                action(key)


def is_table(key: str) -> bool:
    return not key.startswith("_etl/")
