#!/bin/bash
# Gives the driver's Python the packages that etl.py needs.
#   bootstrap.sh PACKAGES FOLDER     PACKAGES is a zip on S3
# They go into a folder of their own, which PYTHONPATH names, and leave the system's Python alone.
set -euo pipefail
packages=$1 folder=$2
zip=$(mktemp)
aws s3 cp --only-show-errors "$packages" "$zip"
sudo mkdir -p "$folder"
sudo python3 -m zipfile -e "$zip" "$folder"
rm -f "$zip"
