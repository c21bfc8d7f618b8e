"""Settings: command line, then dl.cfg, then default; what is wrong in one line, and no secret in it."""

import os
import subprocess
import sys

import pytest
from helpers import KEY, ROOT, SAMPLE, SECRET, run_process

import etl


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Reads the settings of a dl.cfg with this text in the current folder."""
    monkeypatch.chdir(tmp_path)

    def read(text, *arguments, encoding="utf-8"):
        (tmp_path / "dl.cfg").write_text(text, encoding=encoding)
        return etl.read_settings(list(arguments))

    return read


DATA = "[DATA]\nINPUT = in\nOUTPUT = out\n"


def test_defaults(settings, tmp_path):
    found = settings(DATA)
    assert (found.input, found.output) == (f"file://{tmp_path}/in", f"file://{tmp_path}/out")
    assert (found.songs_partition_by, found.max_rejected) == ("year", 0.01)
    assert set(found.aws.values()) == {""}


def test_the_command_line_wins_over_dl_cfg(settings):
    text = DATA + "[JOB]\nMAX_REJECTED = 0.5\nSONGS_PARTITION_BY = year"
    found = settings(
        text, "--input", "s3://b/x", "--max-rejected", "0", "--songs-partition-by", "year,artist_id"
    )
    assert (found.input, found.max_rejected, found.songs_partition_by) == (
        "s3a://b/x",
        0.0,
        "year,artist_id",
    )


def test_relative_paths_in_dl_cfg_are_relative_to_it_and_on_the_command_line_to_the_caller(
    tmp_path, monkeypatch
):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "my.cfg").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    found = etl.read_settings(["--config", "conf/my.cfg", "--output", "out"])
    assert (found.input, found.output) == (f"file://{tmp_path}/conf/in", f"file://{tmp_path}/out")


def test_without_a_dl_cfg_here_the_one_beside_etl_py_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert etl.read_settings([]).input == f"file://{SAMPLE}"


def test_values_are_taken_literally_and_a_bom_is_accepted(settings):
    found = settings(f"[AWS]\nKEY = {KEY}\nSECRET = {SECRET}\n{DATA}", encoding="utf-8-sig")
    assert (found.aws["KEY"], found.aws["SECRET"]) == (KEY, SECRET)


def test_quotes_are_removed_with_a_warning_that_does_not_show_the_value(settings, capsys):
    found = settings(f"[AWS]\nKEY = '{KEY}'\nSECRET = \"{SECRET}\"\n{DATA}")
    assert (found.aws["KEY"], found.aws["SECRET"]) == (KEY, SECRET)
    said = capsys.readouterr().err
    assert "[AWS] SECRET stands in quotes" in said and SECRET not in said


def test_a_quote_at_one_end_only_belongs_to_the_value(settings, capsys):
    found = settings(f"[AWS]\nKEY = '\nSECRET = 'a\n{DATA}")
    assert (found.aws["KEY"], found.aws["SECRET"], capsys.readouterr().err) == ("'", "'a", "")


def test_a_temporary_key_with_its_token_is_accepted(settings):
    assert settings(f"[AWS]\nKEY = ASIAX\nSECRET = s\nTOKEN = t\n{DATA}").aws["TOKEN"] == "t"


def test_a_layout_is_read_whatever_its_blanks_and_case(settings):
    assert (
        settings(DATA + "[JOB]\nSONGS_PARTITION_BY = Year, artist_ID\n").songs_partition_by
        == "year,artist_id"
    )


def test_paths_are_given_as_uri_with_a_slash_at_the_end_or_from_home(settings, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    found = settings("[DATA]\nINPUT = s3://b/x/\nOUTPUT = file:///data/out/\n")
    assert (found.input, found.output) == ("s3a://b/x", "file:///data/out")
    assert settings("[DATA]\nINPUT = ~/in\nOUTPUT = out\n").input == "file:///home/ada/in"


def test_an_output_that_a_link_puts_into_the_input_is_refused(settings, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(etl.Stop, match="lies in INPUT"):
        settings("[DATA]\nINPUT = in\nOUTPUT = link/out\n")


def test_an_unknown_key_is_named(settings, capsys):
    settings("[AWS]\nAWS_SECRET_ACCESS_KEY = hidden\n" + DATA)
    said = capsys.readouterr().err
    assert "[AWS] AWS_SECRET_ACCESS_KEY is no setting" in said and "hidden" not in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("KEY = hidden\n" + DATA, "line 1 stands before any section; begin with [AWS]"),
        ("[AWS]\nSECRET\n  hidden\n" + DATA, "line 2 is not `KEY = value`"),
        ("[AWS]\nSECRET = a\nSECRET = hidden\n" + DATA, "line 3 repeats a section or key"),
        ("[AWS]\nSECRET = hidden\n" + DATA, "one of KEY and SECRET"),
        ("[AWS]\nKEY = hidden\n" + DATA, "one of KEY and SECRET"),
        ("[AWS]\nKEY = ASIAX\nSECRET = hidden\n" + DATA, "add its TOKEN"),
        ("[AWS]\nKEY = A\nSECRET = hidden\nPROFILE = p\n" + DATA, "both KEY and PROFILE"),
        ("[DATA]\nINPUT = in\n", "[DATA] has no OUTPUT; name a folder or an s3a:// prefix"),
        ("[DATA]\nINPUT = hdfs://x/y\nOUTPUT = out\n", "hdfs://x/y cannot be used"),
        ("[DATA]\nINPUT = s3://b//y\nOUTPUT = out\n", "s3://b//y cannot be used"),
        ("[DATA]\nINPUT = s3:///y\nOUTPUT = out\n", "s3:///y cannot be used"),
        ("[DATA]\nINPUT = s3://b/../y\nOUTPUT = out\n", "s3://b/../y cannot be used"),
        ("[DATA]\nINPUT = in\nOUTPUT = in\n", "lies in INPUT"),
        ("[DATA]\nINPUT = in\nOUTPUT = in/out\n", "lies in INPUT"),
        ("[DATA]\nINPUT = s3://b\nOUTPUT = s3a://b/out\n", "lies in INPUT"),
        (DATA + "[JOB]\nMAX_REJECTED = 1 %\n", "MAX_REJECTED is 1 %"),
        (DATA + "[JOB]\nMAX_REJECTED = 1.5\n", "MAX_REJECTED is 1.5"),
        (DATA + "[JOB]\nSONGS_PARTITION_BY = artist\n", "choose year or year,artist_id"),
    ],
)
def test_what_is_wrong_is_said_without_any_value_that_may_be_secret(settings, text, words):
    with pytest.raises(etl.Stop) as stop:
        settings(text)
    assert stop.value.code == 2
    assert words in str(stop.value) and "dl.cfg" in str(stop.value)
    assert "hidden" not in str(stop.value)


def test_a_folder_whose_name_begins_like_the_input_is_another_folder(settings):
    assert settings("[DATA]\nINPUT = in\nOUTPUT = input2\n").output.endswith("/input2")


def test_a_config_that_is_not_there(settings):
    with pytest.raises(
        etl.Stop, match=r"nowhere.cfg: No such file or directory; name a settings file"
    ) as stop:
        settings(DATA, "--config", "nowhere.cfg")
    assert stop.value.code == 2


def test_the_shipped_dl_cfg_has_empty_keys_and_the_sample_as_input():
    values = etl.read_config(ROOT / "dl.cfg")
    assert {values[name] for name in etl.KNOWN["AWS"]} == {""}
    assert values["INPUT"] == "data/sample"


def test_importing_etl_py_does_nothing(tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[1]); import etl, pyspark; assert not pyspark.SparkContext._jvm"
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ((), "no such folder"),
        (("song_data",), "song_data: no object ends in .json"),
        (None, "no such folder"),
    ],
)
def test_an_input_without_songs_is_refused_before_spark_starts(tmp_path, folders, words):
    if folders is not None:
        for folder in folders:
            (tmp_path / "in" / folder).mkdir(parents=True)
    done = run_process("--input", tmp_path / "in", "--output", tmp_path / "out", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert words in done.stderr


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    done = run_process("--output", tmp_path / "file" / "out", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert (
        "file/out: this user may not read or write there; correct that, or name another folder"
        in done.stderr
    )


def test_no_java(tmp_path):
    done = run_process("--output", tmp_path / "out", cwd=tmp_path, env={"JAVA_HOME": str(tmp_path)})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "no Java in JAVA_HOME" in done.stderr and "needs Java 17 or 21" in done.stderr
    assert not (tmp_path / "out" / "songs").exists()


def test_java_11(tmp_path):
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    done = run_process("--output", tmp_path / "out", cwd=tmp_path, env={"JAVA_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert f"{java} is Java 11; Spark" in done.stderr and "needs Java 17 or 21" in done.stderr


def test_a_path_on_s3_without_credentials(tmp_path):
    env = {
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "none", "AWS_CONFIG_FILE": "none",
        "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "default",
    }  # fmt: skip
    env.pop("AWS_PROFILE")
    done = run_process(
        "--input", "s3://bucket/in", "--output", tmp_path / "out", cwd=tmp_path, env=env
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "no AWS credentials in dl.cfg, the environment" in done.stderr
