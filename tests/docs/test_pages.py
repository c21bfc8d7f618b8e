"""The pages agree with the code, their links lead somewhere, and their commands work."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from posixpath import normpath

import pytest

import etl

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
}
README = PAGES["README.md"]
SHELL = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)


def anchors(text):
    """The names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_what_cog_writes_is_what_the_pages_hold():
    pages = [page for page in PAGES if "[[[cog" in PAGES[page]]
    command = [sys.executable, "-m", "cogapp", "--check", *pages]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        path, _, anchor = link.partition("#")
        target = normpath(str(PurePosixPath(page).parent / path)) if path else page
        has_anchor = not anchor or anchor in anchors(PAGES.get(target, ""))
        if "://" not in link and not ((ROOT / target).exists() and has_anchor):
            broken.append(link)
    assert broken == []


def test_the_readme_names_the_flags_of_the_program(capsys):
    with pytest.raises(SystemExit):
        etl.main(["--help"])
    flags = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    settings = README.partition("## Settings")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(--[a-z][a-z-]+)[ `]", settings)) - {"--driver-memory"} == flags


def test_dl_cfg_has_every_setting_with_its_default_and_no_keys():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "dl.cfg")
    found = {(section, name.upper()) for section in parser for name in parser[section]}
    assert found == {(section, name) for name, (section, *_) in etl.RULES.items()}
    assert [value for value in parser["AWS"].values() if value] == []
    assert {name.upper(): value for name, value in parser["JOB"].items()} == etl.DEFAULTS
    assert "dl.local.cfg" in (ROOT / ".gitignore").read_text().split()


def type_in(command, home):
    """What a command prints in a clone in this home folder, with the clone's environment."""
    clone = home / "sparkify"
    variables = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{clone}/.venv/bin{os.pathsep}{os.environ['PATH']}",
        "PIP_CACHE_DIR": str(Path.home() / ".cache" / "pip"),
    }
    options = {"cwd": clone, "env": variables, "capture_output": True, "text": True}
    result = subprocess.run(command, shell=True, **options)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.mark.long
def test_a_newcomer_gets_to_a_report_of_their_own_data(tmp_path):
    ignored = shutil.ignore_patterns(".*", "output", "report", "dl.local.cfg", "__pycache__")
    shutil.copytree(ROOT, tmp_path / "sparkify", ignore=ignored)
    sections = {
        title: README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        for title in ("Quick start", "A query", "Your own data")
    }
    commands = {
        title: "".join(SHELL.findall(text)).splitlines() for title, text in sections.items()
    }
    type_in(commands["Quick start"][1].partition(" && ")[0], tmp_path)
    assert "Next:" in type_in(commands["Quick start"][2], tmp_path)

    shown = re.search(r"^```\n(┌.*?)```", sections["A query"], re.M | re.S)[1]
    assert shown in [type_in(command, tmp_path) for command in commands["A query"]][-1]

    song, events = re.findall(r"^```json\n(.*?)^```", sections["Your own data"], re.M | re.S)
    type_in(commands["Your own data"][0], tmp_path)
    (tmp_path / "my-data/song_data/songs.json").write_text(song, encoding="utf-8")
    (tmp_path / "my-data/log_data/monday.json").write_text(events, encoding="utf-8")
    printed = type_in(commands["Your own data"][1], tmp_path)
    assert "1 of 1 plays match" in printed
    for command in printed.partition("\nNext:\n")[2].splitlines():
        type_in(command, tmp_path)
    report = (tmp_path / "sparkify/report/report.html").read_text(encoding="utf-8")
    words = " ".join(re.sub("<[^>]+>", " ", report).split())
    assert f"{tmp_path}/my-lake, commit 1" in words
    assert "plays 1 on 1 day" in words
