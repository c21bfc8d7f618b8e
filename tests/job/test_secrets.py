"""A secret in any place of dl.cfg is in no output: no line, no file, no name."""

import os

import pytest

from tests.helpers import KEY, ROOT, write_input

# what careless parsers split, decode, expand or print: base64 with a colon and a blank
CANARY = "wJalr/XUtnF%(x)s+EMI=K7MDENG:bPxRf iCYEX"
GIVEN = {"KEY": KEY, "SECRET": "ordinary", "INPUT": "in"}
LINES = []
for text in (ROOT / "dl.cfg").read_text().splitlines():
    name = text.partition(" =")[0]
    LINES.append(f"{name} = {GIVEN[name]}" if name in GIVEN else text)
# what becomes of a line; `name` is what stands before its `=`
FORMS = {
    "alone": "{canary}",
    "in brackets": "[{canary}]",
    "in brackets that do not close": "[{canary}",
    "after the line": "{line} {canary}",
    "before the line": "{canary} {line}",
    "on a line of its own before": "{canary}\n{line}",
    "on a line of its own after": "{line}\n{canary}",
    "on an indented line after": "{line}\n    {canary}",
    "as a name": "{canary} = x",
    "as a name, with a colon": "{canary}: x",
    "as the value": "{name} = {canary}",
    "as the value, in quotes": "{name} = '{canary}'",
    "as the value, twice": "{name} = {canary}\n{name} = {canary}",
    "as the value, on the next line": "{name} =\n  {canary}",
    "as the value of another name": "MY_{name} = {canary}",
    "as the value of a section": "[{canary}]\n{name} = {canary}",
    "as a URL": "{name} = https://user:{canary}@host/x",
    "as an S3 URL": "{name} = s3a://key:{canary}@bucket/x",
}


def check(text, *paths):
    """No five characters of the canary are in a text, whatever their case, but in these paths."""
    text = text.lower()
    for path in paths:
        text = text.replace(path.lower(), "")
    parts = {CANARY[start : start + 5].lower() for start in range(len(CANARY) - 4)}
    assert [part for part in parts - {"%(x)s"} if part in text] == []


@pytest.fixture(autouse=True)
def source(tmp_path):
    write_input(tmp_path / "in", [b"version 1"], [[b"{}"]])


@pytest.mark.parametrize("form", FORMS)
def test_no_line_of_dl_cfg_that_holds_a_secret_is_printed_or_kept(main, tmp_path, form):
    before = set(tmp_path.iterdir())
    for number, line in enumerate(LINES):
        name = line.partition("=")[0].strip()
        changed = FORMS[form].format(canary=CANARY, line=line, name=name)
        text = "\n".join([*LINES[:number], changed, *LINES[number + 1 :]])
        (tmp_path / "dl.cfg").write_text(text)
        result = main("--dry-run")
        assert result.code in (0, 2), result.err
        # a folder may have any name, and is shown as a path
        paths = []
        if name in ("INPUT", "OUTPUT"):
            paths = [str(tmp_path / CANARY), str(tmp_path / f"{line[len(name) + 3 :]} {CANARY}")]
        check(result.out + result.err, *paths)
    assert set(tmp_path.iterdir()) == before


VALUES = ("KEY", "SECRET", "TOKEN", "PROFILE", "REGION", "ENDPOINT")


@pytest.fixture(scope="module")
def answering(s3):
    """The server, once it answers: before that, every key ends in the same error."""
    s3.bucket("answering")
    return s3


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("canary", [CANARY.replace(" ", ""), CANARY])
def test_no_value_of_aws_is_printed_or_kept_by_a_run_that_uses_it(
    main, answering, tmp_path, name, canary
):
    """A server that repeats the key in its answer changes nothing."""
    values = {
        "KEY": KEY,
        "SECRET": "ordinary",
        "REGION": "us-east-1",
        "ENDPOINT": answering.endpoint,
    }
    values[name] = canary
    if name == "PROFILE":
        del values["KEY"], values["SECRET"]
    lines = ["[AWS]", *(f"{key} = {value}" for key, value in values.items())]
    lines += ["[DATA]", "INPUT = in", "OUTPUT = s3://secrets/lake"]
    (tmp_path / "dl.cfg").write_text("\n".join(lines))
    result = main()
    assert result.code in (1, 2)
    assert result.error == result.err.strip()
    check(result.out + result.err)


def test_a_whole_run_keeps_no_setting_of_aws(main, tmp_path):
    secret = CANARY.replace(" ", "")
    text = "\n".join(LINES).replace("ordinary", secret).replace("TOKEN =", f"TOKEN = {secret}")
    (tmp_path / "dl.cfg").write_text(text)
    environment = dict(os.environ)
    result = main()
    assert result.code == 0, result.err
    check(result.out + result.err)
    assert dict(os.environ) == environment
    for path in (tmp_path / "output").rglob("*"):
        check(str(path))
        if path.is_file():
            check(path.read_bytes().decode("latin-1"))
