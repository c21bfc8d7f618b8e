"""data/generate.py and the sample that it invents."""

import subprocess
import sys

from tests.helpers import ROOT, SAMPLE, files_below

GENERATE = ROOT / "data" / "generate.py"


def generate(*arguments):
    command = [sys.executable, GENERATE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def contents(folder):
    return {name: content for name, (content, _) in files_below(folder).items()}


def test_the_sample_is_what_it_writes(tmp_path):
    generate(tmp_path)
    assert contents(tmp_path) == contents(SAMPLE)


def test_it_says_what_it_wrote_and_that_it_is_invented(tmp_path):
    printed = generate(tmp_path, "--songs", 30, "--events", 200)
    assert str(tmp_path) in printed
    assert "30 invented song records" in printed
    assert "log lines" in printed
