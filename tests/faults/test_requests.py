"""Each request that changes the store fails, loses its answer, or is a killed run's last: no reader loses a row."""

import shutil
from itertools import count

import pytest
from conftest import KEY, SECRET
from harness import WHOLE, Child, Faults, check_no_gap, published, write_version

import etl

SLOW = ("lost twice", "terminated")  # on S3; locally they are quick


class Local:
    """Lakes on this machine: each starts as a copy of one that holds version 1 and whose input is version 2."""

    def __init__(self, folder):
        self.folder, self.first = folder, folder / "first"
        write_version(folder / "in", 1)
        assert self.run(self.first)[0] == 0
        write_version(folder / "in", 2)

    def copy(self, name):
        return shutil.copytree(self.first, self.folder / name, symlinks=True)

    def run(self, output, **options):
        return Child(self.folder, "--input", self.folder / "in", "--output", output, **options).end()

    def place(self, output):
        return etl.open_place(f"file://{output}", None, None)


class S3(Local):
    def __init__(self, folder, server):
        self.server, self.client = server, server.bucket("faults")
        super().__init__(folder)
        self.first = "s3://faults/first"

    def copy(self, name):
        for item in self.client.list_objects_v2(Bucket="faults", Prefix="first/")["Contents"]:
            target = name + item["Key"][len("first") :]
            self.client.copy_object(Bucket="faults", Key=target, CopySource={"Bucket": "faults", "Key": item["Key"]})
        return f"s3://faults/{name}"

    def run(self, output, **options):
        output = "s3://faults/first" if output == self.folder / "first" else output
        config = self.server.config(self.folder, self.folder / "in", output)
        code, said = Child(self.folder, "--config", config, **options).end()
        assert SECRET not in said and KEY not in said
        return code, said

    def place(self, output):
        settings = etl.read_settings(["--config", str(self.folder / "s3.cfg")])
        return etl.open_place(output.replace("s3://", "s3a://"), settings, etl.connect(settings))


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return Local(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def remote(s3, tmp_path_factory):
    return S3(tmp_path_factory.mktemp("remote"), s3)


cases = [
    pytest.param(store, way, marks=pytest.mark.long if store == "remote" and way in SLOW else ())
    for store in ("local", "remote")
    for way in Faults.WAYS
]


@pytest.mark.parametrize(("store", "way"), cases)
def test_whichever_request_goes_wrong_no_row_is_lost_and_the_next_run_mends_it(request, store, way):
    lakes = request.getfixturevalue(store)
    for number in count(1):
        output = lakes.copy(f"{way}-{number}")
        code, said = lakes.run(output, faults=(way, number))
        lake = lakes.place(output)
        tables, commits, done = published(lake), etl.newest(lake, "commits"), etl.newest(lake, "done")
        for versions in tables.values():
            check_no_gap(versions, {1, 2})
        is_old = all(versions == {1: WHOLE} for versions in tables.values())
        is_new = all(versions == {2: WHOLE} for versions in tables.values())
        if code == 0:
            assert is_new and done == 2, said
        elif code > 0:
            errors = [line for line in said.splitlines() if line.startswith("etl.py: ") and "warning" not in line]
            assert len(errors) == 1, said
            assert ("nothing is published" in said) <= (is_old and commits == 1), said
            assert ("commit 2 is made" in said) <= (commits == 2), said
        again, says = lakes.run(output)
        assert again == 0, f"{number}: {said}\nand then\n{says}"
        assert all(versions == {2: WHOLE} for versions in published(lake).values()), says
        assert not lake.list("_etl/staging"), says
        assert etl.newest(lake, "done") == etl.newest(lake, "commits") == 2
        if code == 0 and f"requests: {number - 1}\n" in said:
            break  # there was no such request
    assert number > 20
