"""The real publisher in simulated schedules: crashes, lost answers, damage, and runs at once."""

from collections import Counter
from itertools import combinations, product

import pytest

from tests.faults.sim import FATES, FOLDERS, World
from tests.faults.sim_job import four_commits, load, mend, play

SCHEDULES = 20_000
STORES = ("S3", "local")


@pytest.fixture(scope="module")
def job():
    return load()


@pytest.fixture(scope="module")
def copies(job):
    return four_commits(job)


def search(job, copies, seeds):
    """Exit codes of the runs in schedules without faults, counted."""
    codes = Counter()
    for seed in seeds:
        try:
            ended = play(job, seed, copies)
        except AssertionError as broken:
            pytest.fail(f"python -m tests.faults.sim_job {seed} shows how: {broken}")
        if seed % 3 == 0:
            codes.update(ended)
    return codes


# in blocks, so that processes can share them
@pytest.mark.parametrize("block", range(4))
def test_no_schedule_breaks_a_promise(job, copies, block):
    codes = search(job, copies, range(block, SCHEDULES, 4))
    # runs do overlap
    assert codes[75] > codes[0] / 10, codes


@pytest.mark.long
def test_no_schedule_of_a_million_breaks_a_promise(job, copies):
    search(job, copies, range(SCHEDULES, SCHEDULES + 1_000_000))


# ── Each request, one after the other ──


def new_world(job, copies, store):
    world = World(job, 0, copies)
    world.is_local = store == "local"
    world.version += 1
    return world


def requests_of_a_run(job, copies, store):
    return range(1, new_world(job, copies, store).run_alone("alone").requests + 1)


def fail_anywhere(job, copies, store):
    """A request is refused, acts without an answer, or is the last of its run."""
    for number, fate in product(requests_of_a_run(job, copies, store), FATES):
        world = new_world(job, copies, store)
        run = world.run_alone("run", plan={number: fate})
        if fate == "lost" and run.committed_at == number:
            assert run.code == 0, run.said
        assert mend(world) == 1, (number, fate)


def die_twice(job, copies, store):
    """A run dies at a request, and so does the one that mends it; the third is right."""
    requests = requests_of_a_run(job, copies, store)
    for first, second in product(requests, requests):
        world = new_world(job, copies, store)
        world.run_alone("first", plan={first: "dies"})
        world.run_alone("second", plan={second: "dies"})
        assert mend(world) == 1, (first, second)


def pause_anywhere(job, copies, store):
    """A run is paused at a request, while another dies at one of its own and a third is right."""
    requests = requests_of_a_run(job, copies, store)
    for first, second in product(requests, requests):
        world = new_world(job, copies, store)
        paused = world.start("first", plan={first: "pause"})
        world.resume(paused)
        world.version += 1
        world.run_alone("second", plan={second: "dies"})
        world.version += 1
        third = world.run_alone("third")
        world.finish(paused)
        assert third.code == 0, (first, second, third.said)
        assert paused.code in (0, 75), (first, second, paused.said)
        assert world.whole_versions() == {world.version} and len(world.found) == 1, (first, second)
        assert mend(world) == 1, (first, second)


def damage_anywhere(job, copies, store):
    """At a request of a run somebody damages the lake, and maybe another run comes meanwhile."""
    requests = requests_of_a_run(job, copies, store)
    ways = ("lost", "truncated", "restored")
    for number, folder, way, has_other in product(requests, FOLDERS, ways, (False, True)):
        world = new_world(job, copies, store)
        paused = world.start("first", plan={number: "pause"})
        world.resume(paused)
        world.damage(folder, way, copy=copies[1])
        is_right = False
        if has_other:
            world.version += 1
            is_right = world.run_alone("other").code == 0
        world.finish(paused)
        if is_right:
            assert world.whole_versions() == {world.version}, (number, folder, way)
        mend(world)


def commit_one_number_twice(job, copies, store):
    """The commit of a run is lost, and another run makes one of the same number meanwhile."""
    alone = new_world(job, copies, store).run_alone("alone")
    since_commit = range(alone.committed_at + 1, alone.requests + 1)
    for (lost, last), taken in product(combinations(since_commit, 2), since_commit):
        world = new_world(job, copies, store)
        first = world.start("first", plan={lost: "pause", last: "pause"})
        world.resume(first)
        world.damage("_etl/commits/000000005", "lost")
        world.version += 1
        second = world.start("second", plan={taken: "pause"})
        world.resume(second)
        world.resume(first)
        world.finish(second)
        world.finish(first)
        if second.code == 0:
            assert world.whole_versions() == {world.version}, (lost, taken, last)
        mend(world)


CHECKS = (fail_anywhere, damage_anywhere, die_twice, commit_one_number_twice, pause_anywhere)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("check", CHECKS)
def test_whichever_request_it_is_no_promise_is_broken(job, copies, check, store):
    check(job, copies, store)
