#!/bin/bash
# Prepares a node for the job's driver.
#   bootstrap.sh PACKAGES FOLDER     PACKAGES is a zip on S3
# FOLDER/packages is for PYTHONPATH, and FOLDER/python3 is the newest Python of the image.
set -euo pipefail
packages=$1 folder=$2
for version in 3.13 3.12 3.11 none; do
    if python=$(command -v "python$version"); then break; fi
done
if [ -z "$python" ]; then
    echo "This EMR release has no Python 3.11, 3.12 or 3.13. Choose another Release." >&2
    exit 1
fi
zip=$(mktemp)
aws s3 cp --only-show-errors "$packages" "$zip"
sudo mkdir -p "$folder"
sudo "$python" -m zipfile -e "$zip" "$folder/packages"
sudo ln -sf "$python" "$folder/python3"
rm -f "$zip"
