#!/bin/bash
# Installs what etl.py needs besides Spark, from PyPI: for a cluster that you start yourself.
set -euo pipefail
sudo dnf install -y python3.11 python3.11-pip
sudo python3.11 -m pip install 'boto3>=1.40,<2' 'obstore>=0.12,<0.13'
