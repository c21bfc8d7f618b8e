"""The code of a run: etl.py, the Python packages that its driver needs, and the bootstrap script.

Each version has its own folder, so what a run reads never changes.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from aws import ROOT, SETTINGS, Stop, split_s3
from stack import Lake

# the oldest Python that the packages are to run on; they do on newer ones too
PYTHON = "3.11"
# EMR's Amazon Linux 2023 has glibc 2.34
PLATFORMS = {
    "ARM64": ["manylinux2014_aarch64", "manylinux_2_24_aarch64", "manylinux_2_28_aarch64"],
    "X86_64": ["manylinux2014_x86_64", "manylinux_2_24_x86_64", "manylinux_2_28_x86_64"],
}


def upload_code(lake: Lake, architecture: str) -> str:
    """Uploads a version of the code, and returns its s3:// folder."""
    files = {
        "etl.py": (ROOT / "etl.py").read_bytes(),
        "packages.zip": packages(architecture),
        "bootstrap.sh": (ROOT / "cloud" / "bootstrap.sh").read_bytes(),
    }
    version = hashlib.sha256(b"".join(files.values())).hexdigest()[:16]
    bucket, prefix = split_s3(lake.code)
    for name, content in files.items():
        lake.client("s3").put_object(
            Bucket=bucket,
            Key=f"{prefix}/{version}/{name}",
            Body=content,
            # nobody else's bucket is to receive code that the job will run
            ExpectedBucketOwner=lake.outputs["Account"],
        )
    print(f"Code version {version} is in {lake.code}/{version}/", flush=True)
    return f"{lake.code}/{version}"


def packages(architecture: str) -> bytes:
    """A zip of the packages, the same bytes each time.

    The nodes get them from S3 and not from PyPI, so a subnet without internet access will do.
    """
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    # Spark is EMR's own
    wanted = [line for line in lines if not line.startswith(("#", "pyspark"))]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-compile", "--only-binary=:all:", "--python-version", PYTHON]
    for platform in PLATFORMS[architecture]:
        command += ["--platform", platform]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--target", folder, *wanted]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            text = " ".join(done.stderr.split())[-300:]
            raise Stop(SETTINGS, f"pip could not download the packages of the job: {text}")
        return zipped(Path(folder))


def zipped(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                # ZipInfo has a fixed date, so the same content makes the same zip
                entry = zipfile.ZipInfo(str(path.relative_to(folder)))
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()
