"""Code for a run: etl.py and the Python packages that its driver needs, in a place of their own.

The place is named for the content's hash, so that what a running job reads never changes.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from aws import ROOT, SETTINGS, Aws, Stop, join_key, split_s3

# EMR Spark 8 has it, and EMR 7 beside its own 3.9
PYTHON = "python3.11"
# names of wheels that run there: Amazon Linux 2023 has glibc 2.34
PLATFORMS = {
    "ARM64": ["manylinux2014_aarch64", "manylinux_2_24_aarch64", "manylinux_2_28_aarch64"],
    "X86_64": ["manylinux2014_x86_64", "manylinux_2_24_x86_64", "manylinux_2_28_x86_64"],
}


class Code(NamedTuple):
    """What a run reads, as s3:// URIs."""

    script: str
    packages: str
    bootstrap: str


def upload(aws: Aws, work: str, name: str, content: bytes) -> str:
    """Puts a file below WORK/code/ and returns its URI."""
    bucket, prefix = split_s3(work)
    digest = hashlib.sha256(content).hexdigest()[:16]
    key = join_key(prefix, "code", digest, name)
    # a stranger's bucket of that name would otherwise receive the code, and could change it
    owner = {"ExpectedBucketOwner": aws.account}
    aws.change("s3", "put_object", Bucket=bucket, Key=key, Body=content, **owner)
    return f"s3://{bucket}/{key}"


def upload_code(aws: Aws, work: str, architecture: str) -> Code:
    return Code(
        upload(aws, work, "etl.py", (ROOT / "etl.py").read_bytes()),
        upload(aws, work, "packages.zip", packages(architecture)),
        upload(aws, work, "bootstrap.sh", (ROOT / "cloud" / "bootstrap.sh").read_bytes()),
    )


def requirements() -> list[str]:
    """What etl.py needs besides EMR's own pyspark, as requirements.txt pins it."""
    lines = (ROOT / "requirements.txt").read_text().split()
    return [line for line in lines if not line.startswith("pyspark")]


def packages(architecture: str) -> bytes:
    """A zip of the packages for EMR's Python, the same bytes each time.

    They come from here and not from PyPI to the nodes, so that a subnet without a way out will do.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-compile", "--only-binary=:all:"]
    command += ["--python-version", PYTHON.removeprefix("python")]
    for platform in PLATFORMS[architecture]:
        command += ["--platform", platform]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--target", folder, *requirements()]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise Stop(SETTINGS, pip_failure(done.stderr))
        return zipped(Path(folder))


def pip_failure(text: str) -> str:
    if "No module named pip" in text:
        remedy = f"run `{sys.executable} -m ensurepip`"
        return f"this Python has no pip, which fetches the job's packages; {remedy}"
    wanted = ", ".join(requirements())
    return f"pip could not fetch {wanted}; check the network: {text.strip()[-300:]}"


def zipped(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                # without the time of day, by which each zip would differ
                entry = zipfile.ZipInfo(str(path.relative_to(folder)))
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()
