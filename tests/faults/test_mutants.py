"""What each rule of the publisher is for: without it, a simulated schedule breaks a promise."""

import pytest
from greenlet import getcurrent

import etl
from tests.faults.sim import Location
from tests.faults.sim_job import four_commits, load, play
from tests.faults.test_sim import CHECKS, SCHEDULES


class DeletesFirst(Location):
    def move(self, source, target):
        for key in self.list(target.partition("/")[0]):
            self.delete(key)
        super().move(source, target)


class Overwrites(Location):
    def create(self, key, data):
        run = getcurrent()
        self.world.request("create", key, lambda: self.world.put(key, data, run))


class Forgets(Location):
    """What it has created without an answer is not there for it."""

    lost = ""

    def create(self, key, data):
        self.lost = key
        super().create(key, data)
        self.lost = ""

    def get(self, key):
        if key == self.lost:
            raise FileNotFoundError(key)
        return super().get(key)


class Boasts(Location):
    """What it wanted to create is there for it."""

    def create(self, key, data):
        super().create(key, data)
        self.created = {key: data}

    def get(self, key):
        return vars(self).pop("created", {}).get(key) or super().get(key)


class Overlooked(list):
    """Lost files that stop nothing, and are reported all the same."""

    def __bool__(self):
        return False


def location(kind):
    return "open_location", lambda job, real: lambda *_: kind(job.world)


def number_after_listing(job, real):
    def list_input(run):
        manifest = real(run)
        run.number = job.newest_commit(run.lake)["commit"] + 1
        return manifest

    return list_input


def files_after_audit(job, real):
    def make_commit(run, made_from, files):
        real(run, made_from, job.staged_files(run))

    return make_commit


def look_once(is_same):
    """Of the newest commit, until the next reconcile begins, if it is taken for the same."""

    def replace(job, real):
        def newest_commit(lake):
            run = getcurrent()
            seen, when = vars(run).get("seen", (None, None))
            commit = real(lake)
            if when == run.looked and is_same(commit, seen):
                return seen
            run.seen = commit, run.looked
            return commit

        return newest_commit

    return replace


def at_the_end():
    return getcurrent().number > 0


def at_the_start():
    return getcurrent().number == 0


def skip(when):
    def replace(job, real):
        return lambda lake: (job.newest_commit(lake), []) if when() else real(lake)

    return "reconcile", replace


def overlook_what_is_wrong(when):
    def replace(job, real):
        def reconcile(lake):
            commit, wrong = real(lake)
            return commit, [] if when() else wrong

        return reconcile

    return "reconcile", replace


def set_to(name, value):
    return name, lambda job, real: value


# rule -> a name in etl, and what makes its replacement from a copy of etl and what is there
MUTANTS = {
    "older files go after the new ones are there": location(DeletesFirst),
    "older files stay if new ones are lost": (
        "lost_files",
        lambda job, real: lambda *given: Overlooked(real(*given)),
    ),
    "files that are cut short are lost": set_to(
        "lost_files", lambda files, present: sorted(files.keys() - present.keys())
    ),
    "files of a later commit are not for an earlier one to delete": (
        "number_of",
        lambda job, real: lambda key: real(key) if key.endswith(".json") else 0,
    ),
    "files of the same number that a commit does not list go": (
        "number_of",
        lambda job, real: lambda key: real(key) + key.endswith(".parquet"),
    ),
    "nothing is deleted for a commit that is no longer the newest": (
        "newest_commit",
        look_once(lambda commit, seen: True),
    ),
    "a commit of the same number may be another one": (
        "newest_commit",
        look_once(lambda commit, seen: commit["commit"] == seen["commit"]),
    ),
    "staging of runs that are over goes": set_to("abandoned_staging", lambda *_: []),
    "staging of a run at work stays": (
        "abandoned_staging",
        lambda job, real: lambda lake, _: real(lake, {"commit": 10**9 - 2}),
    ),
    "the number is above those in names of files": (
        "reconcile",
        lambda job, real: lambda lake: (real(lake)[0], ["000000000"] * len(real(lake)[1])),
    ),
    "the number is above that of a damaged commit": (
        "commit_numbers",
        lambda job, real: lambda lake: [n for n in real(lake) if job.read_commit(lake, n)],
    ),
    "the number is taken before the input is listed": ("list_input", number_after_listing),
    "a commit is created, never written over": location(Overwrites),
    "a commit whose answer is lost is read back": location(Forgets),
    "a commit is not made before it is read back": location(Boasts),
    "files are listed before they are audited": ("make_commit", files_after_audit),
    "a damaged commit does not count": (
        "read_commit",
        lambda job, real: (
            lambda lake, number: real(lake, number) or {"commit": number, "files": {}}
        ),
    ),
    "a commit that was not published is published by the next run": skip(at_the_start),
    "a run publishes its commit": skip(at_the_end),
    "a run is needed if files are lost": overlook_what_is_wrong(at_the_start),
    "a publication that fails says so": overlook_what_is_wrong(at_the_end),
    "a run that lost says so": set_to("OVERTAKEN", etl.FAILED),
}


@pytest.mark.parametrize("rule", MUTANTS)
def test_without_a_rule_a_promise_is_broken(rule):
    name, replace = MUTANTS[rule]
    mutant = load()
    setattr(mutant, name, replace(mutant, getattr(mutant, name)))
    with pytest.raises(AssertionError):
        copies = four_commits(mutant)
        for seed in range(300):
            play(mutant, seed, copies)
        for check in CHECKS:
            check(mutant, copies, "S3")
            check(mutant, copies, "local")
        for seed in range(300, SCHEDULES):
            play(mutant, seed, copies)
