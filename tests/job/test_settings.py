"""Settings: command line, then dl.cfg, then default; what is wrong is said in one line."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from helpers import KEY, ROOT, SAMPLE, SECRET, run_process

import etl


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Reads the settings of a dl.cfg with this text in the current folder, beside a folder `in`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()

    def read(text, *arguments, encoding="utf-8"):
        (tmp_path / "dl.cfg").write_text(text, encoding=encoding)
        return etl.read_settings(list(arguments))

    return read


DATA = "[DATA]\nINPUT = in\nOUTPUT = out\n"


def test_defaults(settings, tmp_path):
    found = settings(DATA)
    assert found.input == f"file://{tmp_path}/in"
    assert found.output == f"file://{tmp_path}/out"
    assert found.songs_partition_by == "year"
    assert found.max_rejected == Fraction("0.01")
    assert set(found.aws.values()) == {""}


def test_the_command_line_wins_over_dl_cfg(settings):
    text = DATA + "[JOB]\nMAX_REJECTED = 0.5\nSONGS_PARTITION_BY = year"
    flags = "--input s3://b/x --max-rejected 0 --songs-partition-by year,artist_id"
    found = settings(text, *flags.split())
    assert found.input == "s3a://b/x"
    assert found.max_rejected == 0
    assert found.songs_partition_by == "year,artist_id"


def test_relative_paths_are_relative_to_dl_cfg_and_on_the_command_line_to_the_caller(
    tmp_path, monkeypatch
):
    (tmp_path / "conf" / "in").mkdir(parents=True)
    (tmp_path / "conf" / "my.cfg").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    found = etl.read_settings(["--config", "conf/my.cfg", "--output", "out"])
    assert found.input == f"file://{tmp_path}/conf/in"
    assert found.output == f"file://{tmp_path}/out"


def test_without_a_dl_cfg_here_the_one_beside_etl_py_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert etl.read_settings([]).input == f"file://{SAMPLE}"


def test_a_link_to_etl_py_finds_the_dl_cfg_beside_the_file(tmp_path):
    """Nothing is read through the link but the settings, so the empty INPUT is what stops it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "etl.py").write_bytes(Path(etl.__file__).read_bytes())
    (tmp_path / "job" / "dl.cfg").write_text("[DATA]\nINPUT =\n")
    (tmp_path / "bin" / "etl").symlink_to("../job/etl.py")
    command = [sys.executable, tmp_path / "bin" / "etl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "job/dl.cfg: [DATA] INPUT is empty" in done.stderr


def test_values_are_taken_literally_and_a_bom_is_accepted(settings):
    found = settings(f"[AWS]\nKEY = {KEY}\nSECRET = {SECRET}\n{DATA}", encoding="utf-8-sig")
    assert found.aws["KEY"] == KEY
    assert found.aws["SECRET"] == SECRET


def test_quotes_are_removed_with_a_warning(settings, capsys):
    found = settings(f"[AWS]\nKEY = '{KEY}'\nSECRET = \"{SECRET}\"\n{DATA}")
    assert found.aws["KEY"] == KEY
    assert found.aws["SECRET"] == SECRET
    assert "[AWS] SECRET stands in quotes" in capsys.readouterr().err


def test_a_quote_at_one_end_only_belongs_to_the_value(settings, capsys):
    found = settings(f"[AWS]\nKEY = '\nSECRET = 'a\n{DATA}")
    assert found.aws["KEY"] == "'"
    assert found.aws["SECRET"] == "'a"
    assert capsys.readouterr().err == ""


def test_a_temporary_key_with_its_token_is_accepted(settings):
    found = settings(f"[AWS]\nKEY = ASIAX\nSECRET = s\nTOKEN = t\n{DATA}")
    assert found.aws["TOKEN"] == "t"


def test_a_layout_is_read_whatever_its_blanks_and_case(settings):
    found = settings(DATA + "[JOB]\nSONGS_PARTITION_BY = Year, artist_ID\n")
    assert found.songs_partition_by == "year,artist_id"


PLACES = {
    "s3://b/x/": "s3a://b/x",
    "s3a://b": "s3a://b",
    "file:///data/out/": "file:///data/out",
    "file:/data/out": "file:///data/out",
    "/data/out": "file:///data/out",
    "~/out": "file:///home/ada/out",
    "a b/é#[x]": "file://HERE/a b/é#[x]",
    "../out": "file://HERE/../out",
}


@pytest.mark.parametrize("text", PLACES)
def test_a_place_may_be_written_in_several_ways(settings, monkeypatch, tmp_path, text):
    monkeypatch.setenv("HOME", "/home/ada")
    expected = PLACES[text].replace("HERE/..", str(tmp_path.parent)).replace("HERE", str(tmp_path))
    assert settings(DATA, "--output", text).output == expected


NO_PLACES = [
    "s3:/b/x",
    "s3:b/x",
    "s3://",
    "s3:///y",
    "s3://b//y",
    "s3://b/../y",
    "s3://b/./y",
    "file://localhost/x",
    "file://host/x",
    "file:x",
    "S3://b/x",
    "s3n://b/x",
    "hdfs://x/y",
    "hdfs:/x/y",
    "https://b.s3.amazonaws.com/x",
    "~nosuchuser/x",
]


@pytest.mark.parametrize("text", NO_PLACES)
@pytest.mark.parametrize("name", ["INPUT", "OUTPUT"])
def test_what_is_no_place_is_refused_and_blamed_on_its_flag_or_key(settings, name, text):
    for file, flags, blamed in (
        (DATA, [f"--{name.lower()}", text], f"--{name.lower()} {text} "),
        (f"{DATA.replace(name, 'X')}{name} = {text}\n", [], f"dl.cfg: [DATA] {name} "),
    ):
        with pytest.raises(etl.Stop) as stop:
            settings(file, *flags)
        assert stop.value.code == 2
        assert str(stop.value).startswith(blamed)


@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_credentials_in_a_url_are_refused_and_not_printed(main, tmp_path, scheme):
    url = f"{scheme}://{KEY}:{SECRET}@bucket/x"
    (tmp_path / "dl.cfg").write_text(f"[DATA]\nINPUT = {url}\n")
    for arguments in ([], ["--input", url], ["--input", str(SAMPLE), "--output", url]):
        result = main(*arguments)
        assert (result.code, "holds credentials" in result.err) == (2, True)
        assert KEY not in result.err and SECRET not in result.err


@pytest.mark.parametrize(
    "flag", ["input", "output", "max-rejected", "songs-partition-by", "config"]
)
def test_an_empty_flag_is_an_error_and_not_the_default(settings, flag):
    for text in ("", " "):
        with pytest.raises(etl.Stop, match=f"^--{flag} is empty") as stop:
            settings(DATA, f"--{flag}", text)
        assert stop.value.code == 2


IGNORED = {
    "another section": "[OLD]\nOUTPUT = wrong\nINPUT = wrong\nKEY = wrong\n",
    "the section DEFAULT": "[DEFAULT]\nOUTPUT = wrong\nMAX_REJECTED = wrong\nKEY = wrong\n",
    "a section in another case": "[data]\nOUTPUT = wrong\n",
    "a name of another section": "[JOB]\nOUTPUT = wrong\n",
    "another name": "[AWS]\nAWS_SECRET_ACCESS_KEY = wrong\n",
}


@pytest.mark.parametrize("text", IGNORED.values(), ids=list(IGNORED))
@pytest.mark.parametrize("is_first", [True, False])
def test_an_unknown_section_or_name_is_ignored_with_a_warning(settings, capsys, text, is_first):
    plain = settings(DATA)
    assert settings(text + DATA if is_first else DATA + text) == plain
    said = capsys.readouterr().err
    assert "dl.cfg" in said and "ignored" in said
    assert "wrong" not in said


WRONG = {
    "KEY = hidden\n" + DATA: "line 1 is not the first `KEY = value` of its name below a [SECTION]",
    "[AWS]\nSECRET\n  hidden\n" + DATA: "line 2 is not",
    "[AWS]\nSECRET = a\nSECRET = hidden\n" + DATA: "line 3 is not the first",
    DATA + "[DATA]\nINPUT = hidden\n": "line 4 is not the first",
    "[AWS]\nSECRET = hidden\n" + DATA: "[AWS] has one of KEY and SECRET",
    "[AWS]\nKEY = hidden\n" + DATA: "[AWS] has one of KEY and SECRET",
    "[AWS]\nKEY = ASIAX\nSECRET = hidden\n" + DATA: "add its TOKEN",
    "[AWS]\nKEY = A\nSECRET = hidden\nPROFILE = p\n" + DATA: "both KEY and PROFILE",
    "[AWS]\nKEY = A\n hidden\nSECRET = x\n" + DATA: "[AWS] KEY goes on in the next line",
    DATA + "  hidden\n": "[DATA] OUTPUT goes on in the next line, which is indented; correct it",
    "[AWS]\nKEY = A hidden\nSECRET = x\n" + DATA: "[AWS] has a value with a blank",
    "[AWS]\nREGION = us hidden\n" + DATA: "REGION is not a region such as us-west-2",
    "[AWS]\nENDPOINT = hidden:9000\n" + DATA: "ENDPOINT is not a URL such as http://",
    "[AWS]\nENDPOINT = http://hidden@host\n" + DATA: "ENDPOINT is not a URL such as http://",
    "[DATA]\nINPUT = in\n": "[DATA] OUTPUT is empty; give it a value",
    "[DATA]\nOUTPUT = out\n": "[DATA] INPUT is empty; give it a value",
    "[DATA]\nINPUT = hidden\nOUTPUT = out\n": "[DATA] INPUT names no folder",
    DATA + "[JOB]\nMAX_REJECTED = hidden\n": "MAX_REJECTED is not a share from 0 to 1",
    DATA + "[JOB]\nMAX_REJECTED = 1 %\n": "MAX_REJECTED is not a share from 0 to 1",
    DATA + "[JOB]\nMAX_REJECTED = 1.5\n": "MAX_REJECTED is not a share from 0 to 1",
    DATA + "[JOB]\nMAX_REJECTED = nan\n": "MAX_REJECTED is not a share from 0 to 1",
    DATA + "[JOB]\nSONGS_PARTITION_BY = hidden\n": "is not one of year and year,artist_id",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_without_any_value_that_may_be_secret(settings, text):
    with pytest.raises(etl.Stop) as stop:
        settings(text)
    assert stop.value.code == 2
    assert "dl.cfg" in str(stop.value) and WRONG[text] in str(stop.value)
    assert "hidden" not in str(stop.value)


FLAGS = {
    "--max-rejected 1%": "--max-rejected 1% is not a share from 0 to 1, such as 0.01",
    "--max-rejected 2": "--max-rejected 2 is not a share from 0 to 1, such as 0.01",
    "--songs-partition-by artist": "--songs-partition-by artist is not one of",
    "--input nowhere": "--input nowhere names no folder; it is the one that holds song_data",
}


@pytest.mark.parametrize("flags", FLAGS)
def test_a_wrong_flag_is_blamed_and_not_dl_cfg(settings, flags):
    with pytest.raises(etl.Stop) as stop:
        settings(DATA, *flags.split())
    assert stop.value.code == 2
    assert FLAGS[flags] in str(stop.value)
    assert "dl.cfg" not in str(stop.value)


def test_a_share_is_exact(settings):
    assert settings(DATA, "--max-rejected", "0.29").max_rejected == Fraction(29, 100)
    assert settings(DATA, "--max-rejected", "1e-3").max_rejected == Fraction(1, 1000)


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("in", "in/song_data"),
        ("in", "in/log_data/x"),
        ("in", "link/song_data/x"),
        ("link", "in/log_data"),
        ("s3://b", "s3a://b/song_data"),
        ("s3a://b/x", "s3://b/x/log_data/out"),
    ],
)
def test_an_output_in_one_side_of_the_input_is_refused(settings, tmp_path, source, output):
    (tmp_path / "link").symlink_to("in")
    with pytest.raises(etl.Stop, match=r"OUTPUT lies in (song|log)_data of INPUT") as stop:
        settings(f"[DATA]\nINPUT = {source}\nOUTPUT = {output}\n")
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("in", "in"),
        ("in", "in/out"),
        ("in", "in/song_data2"),
        ("in", "in2/song_data"),
        ("s3://b", "s3://b/out"),
        ("s3://b/in", "s3://b/in2/song_data"),
        ("s3://b", "s3://b2/song_data"),
    ],
)
def test_an_output_elsewhere_is_accepted(settings, source, output):
    assert settings(f"[DATA]\nINPUT = {source}\nOUTPUT = {output}\n").output.endswith(output[-3:])


def test_a_config_that_is_not_there(settings):
    words = r"nowhere.cfg: No such file or directory; name a settings file"
    with pytest.raises(etl.Stop, match=words) as stop:
        settings(DATA, "--config", "nowhere.cfg")
    assert stop.value.code == 2


def test_a_config_that_is_a_folder_or_not_utf_8_is_named(settings, tmp_path):
    with pytest.raises(etl.Stop, match="/in: Is a directory"):
        settings(DATA, "--config", str(tmp_path / "in"))
    (tmp_path / "latin.cfg").write_bytes(b"[AWS]\nSECRET = caf\xe9\n")
    with pytest.raises(etl.Stop, match=r"latin\.cfg: not UTF-8 text; save it as UTF-8"):
        settings(DATA, "--config", "latin.cfg")


def test_a_current_folder_that_was_deleted_is_said(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert etl.main([]) == 2
    assert capsys.readouterr().err == (
        "etl.py: the current folder was deleted; change to another\n"
    )


def test_the_shipped_dl_cfg_has_empty_keys_and_the_sample_as_input():
    values = etl.read_config(ROOT / "dl.cfg")
    assert set(values["AWS"].values()) == {""}
    assert values["AWS"].keys() == set(etl.KNOWN["AWS"])
    assert values["DATA"]["INPUT"] == "data/sample"


def test_importing_etl_py_does_nothing(tmp_path):
    code = "import etl, pyspark; assert not pyspark.SparkContext._jvm"
    done = run_process(cwd=tmp_path, code=code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(tmp_path) == []
