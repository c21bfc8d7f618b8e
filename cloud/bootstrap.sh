#!/bin/bash
# Gives the driver's Python the packages that etl.py needs, on the nodes where the driver can run.
#   bootstrap.sh master|all PYTHON FOLDER REQUIREMENT...
# They go into an environment of their own: pip cannot replace what the system's package manager installed.
set -euo pipefail
nodes=$1 python=$2 folder=$3
shift 3
info=${INSTANCE_INFO:-/mnt/var/lib/info/instance.json}
if [ "$nodes" = master ] && ! grep -Eq '"isMaster" *: *true' "$info"; then
    exit 0
fi
# EMR installs its applications, and the Python that they bring, after this script
command -v "$python" >/dev/null || sudo dnf install -y -q "$python"
sudo "$python" -m venv "$folder"
sudo "$folder/bin/python" -m pip install --quiet --no-cache-dir "$@"
