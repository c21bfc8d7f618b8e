"""The publishing protocol as a model: one table, two files a commit, and every request a step of its own.

A run is a generator that yields after each request to the store, so that a test can stop it there, run others in
between, or never resume it.  `broken` names the rule that a mutant of the protocol leaves out.
"""

from collections import namedtuple

File = namedtuple("File", "commit run part")
Commit = namedtuple("Commit", "run files listed")
PARTS = (0, 1)


class Store:
    def __init__(self):
        self.commits, self.done, self.staging, self.table = {}, set(), {}, set()
        self.clock = 0  # of input listings: a later one sees newer input

    def is_whole(self) -> bool:
        """A reader of the table folder gets every row: all the files of some commit are there."""
        return not self.done or any(commit.files <= self.table for commit in self.commits.values())

    def is_settled(self) -> bool:
        """The table is just the newest commit, and no staging is left that a publisher could copy again."""
        newest = max(self.commits, default=0)
        return (
            newest in self.done
            and self.table == self.commits[newest].files
            and not any(number <= newest for number, _ in self.staging)
        )


def publish(store, number, broken=""):
    commit = store.commits[number]
    present = set(store.table)
    yield

    def copy():
        for file in sorted(commit.files - present):
            if file not in store.staging.get((number, commit.run), ()):
                return False
            store.table.add(file)
            yield
        return True

    def delete():
        present = set(store.table)
        yield
        for file in sorted(superseded(present, number, commit, broken)):
            store.table.discard(file)
            yield

    if broken == "delete first":
        yield from delete()
    complete = yield from copy()
    if complete:
        if broken != "delete first":
            yield from delete()
        present = set(store.table)
        yield
        complete = commit.files <= present and not superseded(present, number, commit, broken)
    if complete:
        store.done.add(number)
        yield
    return complete or number <= max(store.done, default=0) or number < max(store.commits)


def superseded(present, number, commit, broken):
    return {
        file
        for file in present - commit.files
        if broken == "no number guard" or file.commit <= number
    }


def clean(store, broken=""):
    number, folders = max(store.done, default=0), sorted(store.staging)
    yield
    for folder in folders:
        is_ours = number in store.commits and folder == (number, store.commits[number].run)
        if folder[0] <= number and (broken != "superseded staging kept" or is_ours):
            store.staging.pop(folder, None)
            yield
    if number:
        present = set(store.table)
        yield
        for file in sorted(superseded(present, number, store.commits[number], broken)):
            store.table.discard(file)
            yield


def run(store, name, broken=""):
    """A whole run; returns its exit code."""
    newest = max(store.commits, default=0)
    yield
    if newest > max(store.done, default=0):
        published = yield from publish(store, newest, broken)
        if not published:
            return 1
    yield from clean(store, broken)
    number = max(store.commits, default=0) + 1
    yield
    store.clock += 1
    listed = store.clock
    yield
    folder = number, name
    for part in PARTS:
        store.staging.setdefault(folder, set()).add(File(number, name, part))
        yield
    if broken == "number taken at commit":
        number = max(store.commits, default=0) + 1
        store.staging[number, name] = {
            file._replace(commit=number) for file in store.staging.pop(folder, set())
        }
        folder = number, name
        yield
    files = frozenset(store.staging.get(folder, ()))
    yield
    if len(files) < len(PARTS) or number in store.commits:  # create-if-absent: one request
        store.staging.pop(folder, None)
        return 75
    store.commits[number] = Commit(name, files, listed)
    yield
    published = yield from publish(store, number, broken)
    if not published:
        return 1
    yield from clean(store, broken)
    return 0
