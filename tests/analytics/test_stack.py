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


def test_every_service_is_pinned_checked_and_not_root():
    assert set(STACK["services"]) == {"jupyter", "postgres", "adminer"}
    for name, service in STACK["services"].items():
        assert re.search(r":(spark-)?\d+\.\d+(\.\d+)?(-standalone)?$", service["image"]), name
        assert service["user"] not in ("root", "0") and service["healthcheck"]["test"], name


def test_no_password_stands_in_it():
    settings = {
        key: value
        for service in STACK["services"].values()
        for key, value in service["environment"].items()
    }
    assert [key for key in settings if "PASSWORD" in key] == ["POSTGRES_PASSWORD_FILE"]
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert f"/analytics/{STACK['secrets']['postgres_password']['file']}" in ignored


def test_its_files_and_volumes_are_there():
    assert all((HERE / config["file"]).is_file() for config in STACK["configs"].values())
    mounts = [
        volume.split(":")[0]
        for service in STACK["services"].values()
        for volume in service.get("volumes", [])
    ]
    assert set(mounts) - {".."} == set(STACK["volumes"])


def test_the_start_hook_installs_the_requirements_and_leaves_the_password_for_postgresql_s_clients(
    tmp_path,
):
    (tmp_path / "pip").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/installed\n')
    (tmp_path / "pip").chmod(0o755)
    (tmp_path / "secret").write_text("a:b\\c'd%\n")
    settings = STACK["services"]["jupyter"]["environment"]
    hook = HERE / STACK["configs"]["before_notebook"]["file"]
    own = {"HOME": str(tmp_path), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    environment = {**settings, **own, "PGPASSWORD_SECRET": str(tmp_path / "secret")}
    subprocess.run(["bash", "-euc", f"source {hook}"], env=environment, check=True)
    assert (tmp_path / ".pgpass").read_text() == "postgres:*:*:sparkify:a\\:b\\\\c'd%\n"
    assert (tmp_path / ".pgpass").stat().st_mode & 0o777 == 0o600
    mounted = next(
        v for v in STACK["services"]["jupyter"]["volumes"] if v.startswith("..:")
    ).removeprefix("..:")
    wanted = re.search(r"--requirement (\S+)", (tmp_path / "installed").read_text())[1]
    assert (ROOT / wanted.removeprefix(f"{mounted}/")).is_file()


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
    assert all(service["image"] in done.stdout for service in STACK["services"].values())
