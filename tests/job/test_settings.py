"""Settings: command line, then dl.local.cfg, then dl.cfg; what is wrong is said in one line."""

import os

import pytest

import etl
from tests.helpers import KEY, SAMPLE, SECRET, run_process


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Reads the settings of a dl.cfg with this text in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()

    def read(text, *arguments, encoding="utf-8"):
        (tmp_path / "dl.cfg").write_text(text, encoding=encoding)
        return etl.read_settings(list(arguments))

    return read


DATA = "[DATA]\nINPUT = in\nOUTPUT = out\n"


def test_defaults(settings, tmp_path):
    found = settings(DATA)
    assert (found.input, found.output) == (f"{tmp_path}/in", f"{tmp_path}/out")
    assert (found.songs_partition_by, found.max_rejected) == ("year", "0.01")
    assert not (found.dry_run or found.force or found.verbose)
    assert not any(
        getattr(found, name.lower()) for name, rule in etl.RULES.items() if rule[0] == "AWS"
    )


def test_the_command_line_wins_over_dl_local_cfg_and_that_over_dl_cfg(settings, tmp_path):
    text = "[AWS]\nKEY = K\nSECRET = S\n[JOB]\nSONGS_PARTITION_BY = year\nMAX_REJECTED = 0.3\n"
    (tmp_path / "dl.local.cfg").write_text(
        f"[AWS]\nKEY = {KEY}\n[DATA]\nOUTPUT = mine\n[JOB]\nMAX_REJECTED = 0.2\n"
    )
    found = settings(DATA + text, "--max-rejected", "0", "--input", "s3://bucket/x")
    assert found.input == "s3a://bucket/x"
    assert found.output == f"{tmp_path}/mine"
    assert (found.key, found.secret) == (KEY, "S")
    assert found.max_rejected == "0"


def test_relative_paths_are_relative_to_the_file_and_on_the_command_line_to_the_caller(
    tmp_path, monkeypatch
):
    """The dl.local.cfg is that beside --config."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "my.cfg").write_text(DATA)
    (tmp_path / "conf" / "dl.local.cfg").write_text("[DATA]\nINPUT = mine\n")
    (tmp_path / "dl.local.cfg").write_text("[DATA]\nINPUT = other\n")
    monkeypatch.chdir(tmp_path)
    found = etl.read_settings(["--config", "conf/my.cfg", "--output", "out"])
    assert (found.input, found.output) == (f"{tmp_path}/conf/mine", f"{tmp_path}/out")


def test_without_a_dl_cfg_here_the_one_beside_etl_py_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert etl.read_settings([]).input == str(SAMPLE)


def test_values_are_taken_literally_and_a_bom_is_accepted(settings):
    found = settings(f"[AWS]\nKEY = {KEY}\nSECRET = {SECRET}\n{DATA}", encoding="utf-8-sig")
    assert (found.key, found.secret) == (KEY, SECRET)


def test_quotes_around_a_value_are_dropped_with_a_warning(settings, capsys):
    found = settings(f"[AWS]\nKEY = '{KEY}'\nSECRET = \"{SECRET}\"\nTOKEN = 'a\n{DATA}")
    assert (found.key, found.secret, found.token) == (KEY, SECRET, "'a")
    warnings = capsys.readouterr().err.splitlines()
    assert ["quotes" in line for line in warnings] == [True, True]
    assert SECRET not in "".join(warnings)


LOCATIONS = {
    "s3://b-1.x/y/": "s3a://b-1.x/y",
    "s3a://bucket": "s3a://bucket",
    "file:///data/out/": "/data/out",
    "/data/out": "/data/out",
    "~/out": "/home/ada/out",
    "a b/é#[x]": "HERE/a b/é#[x]",
    "./a/../out": "HERE/out",
    "s3_lake": "HERE/s3_lake",
}


@pytest.mark.parametrize("text", LOCATIONS)
def test_a_location_may_be_written_in_several_ways(settings, monkeypatch, tmp_path, text):
    monkeypatch.setenv("HOME", "/home/ada")
    expected = LOCATIONS[text].replace("HERE", str(tmp_path))
    assert settings(DATA, "--output", text).output == expected
    assert settings(f"[DATA]\nINPUT = in\nOUTPUT = {text}\n").output == expected


NO_LOCATIONS = [
    "",
    "s3://",
    "s3:///y",
    "s3://b",
    "s3://bucket//y",
    "s3://bucket/../y",
    "s3://user:hidden@bucket/y",
    "s3://my bucket/lake",
    "s3://<your-bucket>/lake",
    "s3a://${BUCKET}/lake",
    "file://host/x",
    "S3://bucket/x",
    "s3n://bucket/x",
    "hdfs://x/y",
    "https://hidden@bucket.s3.amazonaws.com/x",
    "$HOME/lake",
    "lake  # where the tables go",
    "lake ; mine",
]


@pytest.mark.parametrize("text", NO_LOCATIONS)
@pytest.mark.parametrize("name", ["INPUT", "OUTPUT"])
def test_a_placeholder_a_comment_or_another_scheme_is_refused_without_its_value(
    settings, name, text
):
    """It is blamed on the flag, or on the file, section and name."""
    both = {"INPUT": "in", "OUTPUT": "out", name: text}
    file = "[DATA]\n" + "".join(f"{key} = {value}\n" for key, value in both.items())
    cases = [(file, []), (DATA, [f"--{name.lower()}", text])]
    for (config, flags), blamed in zip(cases, (f"dl.cfg: [DATA] {name}", f"--{name.lower()}")):
        with pytest.raises(etl.Stop) as stop:
            settings(config, *flags)
        assert stop.value.code == 2
        assert str(stop.value).startswith(f"{blamed} must be a folder or s3://bucket/prefix")
        assert "hidden" not in str(stop.value)


UNKNOWN = [
    "[JOBS]\nMAX_REJECTED = wrong\n",
    "[DEFAULT]\nINPUT = wrong\n",
    "[data]\nINPUT = wrong\n",
    "[JOB]\nMAX_REJECT = wrong\n",
    "[JOB]\nINPUT = wrong\n",
]


@pytest.mark.parametrize("text", UNKNOWN)
@pytest.mark.parametrize("is_first", [True, False])
def test_an_unknown_section_or_name_is_ignored_with_a_warning(settings, capsys, text, is_first):
    plain = settings(DATA)
    assert settings(text + DATA if is_first else DATA + text) == plain
    said = capsys.readouterr().err
    assert "dl.cfg" in said and "ignored" in said
    assert "wrong" not in said


WRONG = {
    "KEY = hidden\n" + DATA: "dl.cfg, line 1: ",
    "[AWS]\nSECRET\n  hidden\n" + DATA: "dl.cfg, line 2: ",
    "[AWS]\nSECRET = a\nSECRET = hidden\n" + DATA: "dl.cfg, line 3: ",
    DATA + "[DATA]\nINPUT = hidden\n": "dl.cfg, line 4: ",
    "[AWS]\nKEY = A\n hidden\n" + DATA: "[AWS] KEY must be",
    "[AWS]\nSECRET = A hidden\n" + DATA: "[AWS] SECRET must be",
    "[AWS]\nREGION = us hidden\n" + DATA: "REGION must be a region such as us-west-2",
    "[AWS]\nENDPOINT = hidden:9000\n" + DATA: "ENDPOINT must be a URL such as http://",
    "[AWS]\nENDPOINT = http://hidden@host\n" + DATA: "ENDPOINT must be a URL",
    "[DATA]\nINPUT = in\n": "[DATA] OUTPUT must be",
    DATA + "  hidden\n": "[DATA] OUTPUT must be",
    DATA + "[JOB]\nMAX_REJECTED = hidden\n": "MAX_REJECTED must be a number from 0 to 1",
    DATA + "[JOB]\nMAX_REJECTED = 1 %\n": "MAX_REJECTED must be a number from 0 to 1",
    DATA + "[JOB]\nMAX_REJECTED = 1.5\n": "MAX_REJECTED must be a number from 0 to 1",
    DATA + "[JOB]\nSONGS_PARTITION_BY = hidden\n": "must be year or year,artist_id",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_without_any_value_that_may_be_secret(settings, text):
    with pytest.raises(etl.Stop) as stop:
        settings(text)
    assert stop.value.code == 2
    assert "dl.cfg" in str(stop.value) and WRONG[text] in str(stop.value)
    assert "hidden" not in str(stop.value)


def test_a_wrong_value_of_dl_local_cfg_is_blamed_on_that_file(settings, tmp_path):
    (tmp_path / "dl.local.cfg").write_text("[AWS]\nREGION = us west\n")
    with pytest.raises(etl.Stop, match=r"dl\.local\.cfg: \[AWS\] REGION must be"):
        settings(DATA)


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("in", "in/song_data"),
        ("in", "in/log_data/x"),
        ("s3://bucket", "s3a://bucket/song_data"),
        ("s3a://bucket/x", "s3://bucket/x/log_data/out"),
    ],
)
def test_an_output_in_a_dataset_of_the_input_is_refused(settings, source, output):
    with pytest.raises(etl.Stop, match=r"OUTPUT is inside INPUT.s (song|log)_data") as stop:
        settings(f"[DATA]\nINPUT = {source}\nOUTPUT = {output}\n")
    assert stop.value.code == 2


@pytest.mark.parametrize("output", ["in", "in/out", "in/song_data2", "s3://bucket/song_data"])
def test_an_output_elsewhere_is_accepted(settings, output):
    assert settings(DATA, "--output", output).output.endswith(output[-3:])


def test_a_config_that_cannot_be_read_is_named(settings, tmp_path):
    (tmp_path / "latin.cfg").write_bytes(b"[AWS]\nSECRET = caf\xe9\n")
    for name in ("nowhere.cfg", "in", "latin.cfg"):
        with pytest.raises(etl.Stop, match=f"{name} cannot be read as text") as stop:
            settings(DATA, "--config", name)
        assert stop.value.code == 2


def test_importing_etl_py_does_nothing(tmp_path):
    code = "import etl, pyspark; assert not pyspark.SparkContext._jvm"
    done = run_process(cwd=tmp_path, code=code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(tmp_path) == []
