"""analytics/stack.yml, as far as it can be tried without a Docker engine."""

import os
import re
import shutil
import subprocess

import pytest
import yaml
from helpers import ROOT

HERE = ROOT / "analytics"
STACK = yaml.safe_load((HERE / "stack.yml").read_text())
SERVICES = STACK["services"]
DOCKERFILE = (HERE / "Dockerfile").read_text()
DOCS = ROOT / "docs" / "analytics.md"


def test_every_image_is_pinned_and_nothing_runs_as_root():
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images.append(re.search(r"^FROM (\S+)$", DOCKERFILE, re.MULTILINE)[1])
    for image in images:
        assert re.search(r":(spark-)?\d+\.\d+(\.\d+)?(-standalone)?$", image), image
    for name, service in SERVICES.items():
        assert service["user"].partition(":")[0] not in ("root", "0"), name


def test_what_stays_up_is_checked_and_started_again():
    assert set(SERVICES) == {"fill", "jupyter", "postgres", "adminer"}
    for name, service in SERVICES.items():
        if name != "fill":
            assert service["healthcheck"]["test"] and service["restart"] == "unless-stopped"


def test_postgresql_fills_itself_from_the_sample_and_the_service_ends():
    fill = SERVICES["fill"]
    commands = fill["command"][-1].split(" && ")
    assert commands == ["python etl.py", "python analytics/to_postgres.py"]
    assert all((ROOT / command.split()[1]).is_file() for command in commands)
    assert fill["deploy"]["restart_policy"]["condition"] == "on-failure"


def test_ports_are_open_to_this_machine_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "127.0.0.1:5432:5432" in ports


def test_whoever_owns_the_checkout_can_write_it():
    mounted = [
        s for s in SERVICES.values() if any(v.startswith("..:") for v in s.get("volumes", []))
    ]
    assert len(mounted) == 2
    assert all(service["user"] == "${OWNER:-1000}:100" for service in mounted)


def test_no_password_stands_in_it():
    settings = {
        key: value for service in SERVICES.values() for key, value in service["environment"].items()
    }
    assert [key for key in settings if "PASSWORD" in key] == ["POSTGRES_PASSWORD_FILE"]
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert f"/analytics/{STACK['secrets']['postgres_password']['file']}" in ignored


def test_the_image_is_built_of_files_that_are_there_and_not_ignored():
    copied = re.findall(r"^COPY (\S+)", DOCKERFILE, re.MULTILINE)
    kept = (HERE / ".dockerignore").read_text()
    for name in copied:
        assert (HERE / name).is_file() and f"!{name}" in kept
    assert "requirements.txt" in copied


def test_its_volumes_are_declared():
    mounts = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
    ]
    assert set(mounts) - {".."} == set(STACK["volumes"])


def test_the_start_hook_leaves_the_password_for_postgresql_s_clients(tmp_path):
    (tmp_path / "secret").write_text("a:b\\c'd%\n")
    own = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    environment = {
        **SERVICES["fill"]["environment"],
        **own,
        "PGPASSWORD_SECRET": str(tmp_path / "secret"),
    }
    hook = HERE / "before_notebook.sh"
    subprocess.run(["bash", "-euc", f"source {hook}"], env=environment, check=True)
    assert (tmp_path / ".pgpass").read_text() == "postgres:*:*:sparkify:a\\:b\\\\c'd%\n"
    assert (tmp_path / ".pgpass").stat().st_mode & 0o777 == 0o600


def test_the_page_has_its_commands_and_the_link_that_opens_postgresql():
    text = DOCS.read_text()
    for words in ("up --detach --build", "logs --follow fill", "stop", "down --volumes"):
        assert f"docker compose -f analytics/stack.yml {words}" in text
    assert "?pgsql=postgres&username=sparkify&db=sparkify&ns=sparkify" in text


@pytest.mark.parametrize("command", [("stack", "config", "-c"), ("compose", "-f")])
def test_docker_takes_the_file(command, tmp_path):
    described = shutil.which("docker") and subprocess.run(
        ["docker", command[0], "--help"], capture_output=True, text=True
    )
    if not described or f"docker {command[0]}" not in described.stdout:
        pytest.skip(f"no docker {command[0]} here")
    for file in HERE.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    (tmp_path / "postgres_password").write_text("secret")
    end = ["config"] if command[0] == "compose" else []
    done = subprocess.run(
        ["docker", *command, str(tmp_path / "stack.yml"), *end], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(service["image"] in done.stdout for service in SERVICES.values())
