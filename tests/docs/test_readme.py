"""README.md and docs/ against the code: keys, tables, commands, printed words, files."""

import ast
import json
import re
import subprocess
import sys

import pytest
from helpers import ROOT

import etl

README = (ROOT / "README.md").read_text(encoding="utf-8")
CELLS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in README.splitlines()
    if line.startswith("| ")
]
# Words of other programs, whose errors a newcomer meets before or around ours.
FOREIGN = {
    "externally-managed-environment",
    "python: command not found",
    "DEPRECATION: pyspark is being installed using the legacy",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "Class org.apache.hadoop.fs.s3a.S3AFileSystem not found",
}


def test_the_front_page_has_at_most_130_lines():
    assert len(README.splitlines()) <= 130


def test_the_keys_it_lists_are_the_keys_read():
    listed = [(row[0], key) for row in CELLS if row[0] in etl.KNOWN for key in row[1].split(", ")]
    assert listed == [(section, key) for section, keys in etl.KNOWN.items() for key in keys]


def test_the_flags_it_lists_are_those_of_the_program():
    command = [sys.executable, ROOT / "etl.py", "--help"]
    known = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"--[a-z][a-z-]+", known))
    listed = set(re.findall(r"`(--[a-z][a-z-]+)", README))
    assert listed == flags - {"--help"}


def test_the_tables_that_it_lists_are_those_of_the_job():
    listed = {re.match(r"\[(\w+)\]", row[0])[1] for row in CELLS if row[0].startswith("[")}
    assert listed == set(etl.COLUMNS)


def test_its_two_commands_are_there():
    assert "pip install -r requirements.txt && python etl.py" in README
    assert "pip install -r requirements-dev.txt && pytest" in README


def commands(text):
    """The lines of indented code, without their comments."""
    lines = re.findall(r"^    (?! )(.+)$", text, re.MULTILINE)
    return [line.partition("  #")[0].strip() for line in lines]


def test_every_file_that_a_command_names_is_there(pages):
    for page, text in pages.items():
        for command in commands(text):
            for word in command.replace("&&", " ").split():
                is_file = re.fullmatch(r"[\w./-]+\.(py|txt|sql|yml|sh)", word)
                if is_file and not word.startswith(("output", "report/")):
                    assert (ROOT / word).is_file(), f"{page}: {command}"


def test_every_option_that_a_command_gives_to_one_of_our_programs_is_known(pages):
    for page, text in pages.items():
        for command in commands(text):
            found = re.search(r"python ([\w/]+\.py)(.*)", command)
            if not found:
                continue
            program = ROOT / found[1]
            files = [program] if program.parent == ROOT else program.parent.glob("*.py")
            source = "".join(path.read_text(encoding="utf-8") for path in files)
            for option in re.findall(r" (--[a-z-]+)", found[2].partition("&&")[0]):
                assert f'"{option}"' in source, f"{page}: {command}"


PAGES = sorted((ROOT / "docs").glob("*.md"))
PAGES.append(ROOT / "README.md")
PROGRAMS = sorted(
    {
        program
        for path in PAGES
        for command in commands(path.read_text(encoding="utf-8"))
        for program in re.findall(r"python ([\w/]+\.py)", command)
    }
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_that_a_command_starts_tells_its_options(program):
    command = [sys.executable, ROOT / program, "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_every_group_of_tests_that_a_command_names_is_known(pages):
    known = (ROOT / "pyproject.toml").read_text()
    for text in pages.values():
        for command in commands(text):
            for marker in re.findall(r"pytest -m (\w+)", command):
                assert f'"{marker}: ' in known


def test_a_second_run_says_where_the_tables_are(project):
    printed = project.shell("python etl.py")
    assert "Nothing to do" in printed
    assert "output" in printed


def test_a_dry_run_in_the_project_s_folder_works(project):
    assert project.shell("python etl.py --dry-run")


# ── Words that a run prints ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", ["README.md", "docs/how-it-works.md"])
def test_every_class_that_a_run_prints_is_explained(pages, page):
    for name in {*etl.EVENT_CLASSES, *etl.SONG_CLASSES} - {"songs"}:
        assert re.search(rf"\*{name}\*|^\| {name} \|", pages[page], re.MULTILINE), name


def test_every_key_of_the_summary_is_explained(project, pages):
    path = next((project.output / "_etl" / "runs").iterdir())
    summary = json.loads(path.read_text(encoding="utf-8"))
    for key in (*summary, *summary["events"]):
        assert f"`{key}`" in pages["docs/tables.md"] + pages["docs/how-it-works.md"], key


def literals(source):
    """Every text that stands in a program, with a blank where a value is put in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [getattr(part, "value", " ") for part in node.values]
            yield "".join(part if isinstance(part, str) else " " for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_error_that_is_explained_is_printed_by_the_job(pages):
    headings = re.findall(r"^## (`.+)$", pages["docs/errors.md"], re.MULTILINE)
    explained = {text for heading in headings for text in re.findall(r"`([^`]+)`", heading)}
    listed = README.partition("## If it stops")[2].partition("\n## ")[0]
    explained |= set(re.findall(r"^- `([^`]+)`", listed, re.MULTILINE))
    ours = [re.sub(r"\s+", " ", text) for text in literals((ROOT / "etl.py").read_text())]
    missing = []
    for text in explained - FOREIGN:
        # "…" stands for what differs
        parts = text.split("…")
        if not any(all(part in each for part in parts) for each in ours):
            missing.append(text)
    assert missing == []


def test_every_exit_code_is_explained(pages):
    codes = {etl.FAILED, etl.SETTINGS, etl.REFUSED, etl.OVERTAKEN, etl.INTERRUPTED}
    listed = set(map(int, re.findall(r"^\| (\d+) \|", pages["docs/errors.md"], re.MULTILINE)))
    assert listed == {0, *codes}


# ── What a newcomer's machine needs ─────────────────────────────────────────────────────────────


def test_the_dev_container_installs_what_the_job_needs():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["image"].endswith("python:3.11")
    (java,) = (value for name, value in container["features"].items() if "/java:" in name)
    assert java["version"] in ("17", "21")
    assert "pip install -r requirements.txt" in container["postCreateCommand"]


def test_uv_gets_the_same_packages_as_pip():
    text = (ROOT / "etl.py").read_text(encoding="utf-8")
    head = re.search(r"^# /// script$(.*?)^# ///$", text, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r'"([\w-]+)[^"]*"', head[1].partition("dependencies")[2]))
    required = (ROOT / "requirements.txt").read_text().split("\n")
    assert named == {re.match(r"[\w-]+", line)[0] for line in required if line}
