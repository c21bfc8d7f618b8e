"""Every `aws` command of docs/emr.md, run by the AWS CLI against ministack in the page's order."""

import re
import subprocess
import time

from tests.helpers import ROOT
from .fake_aws import ACCOUNT, aws_cli, client, deployable

# the emulator lacks EMR's managed policies, machines, and the tables of a job that did not run
LIMITS = ("aws emr create-default-roles", "aws emr ssh", "aws s3 ls")


def commands() -> list[str]:
    """The page's commands without their comments."""
    text = (ROOT / "docs" / "emr.md").read_text()
    indented = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    joined = "\n".join(indented).replace("\\\n", " ")
    lines = [re.sub(r"\s{3,}#.*|> sparkify.pem$", "", line) for line in joined.splitlines()]
    # PyPI has version 1, without `aws login`
    return [line for line in lines if re.match("aws (?!login)", line)]


def test_the_aws_cli_takes_each_command(cloud, ministack, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(subprocess, "call", lambda command: 0)
    file = tmp_path / "lake.json"
    file.write_text(deployable())
    client("iam").create_user(UserName="ada")
    (group, *_) = client("ec2").describe_security_groups()["SecurityGroups"]
    (subnet, *_) = client("ec2").describe_subnets()["Subnets"]
    values = {
        "BUCKET": "docs-bucket",
        "ACCOUNT": ACCOUNT,
        "NAME": "ada",
        "YOUR.ADDRESS": "192.0.2.1",
        "sg-ID": group["GroupId"],
        "subnet-ID": subnet["SubnetId"],
        "vpc-ID": subnet["VpcId"],
        "cloud/lake.yaml": str(file),
        # the docs' stack stays apart from that of the other tests
        "sparkify": "docs",
        "logs/ --recursive": f"{tmp_path} --recursive",
        "etl.py .": f"etl.py {tmp_path}",
    }
    for line in commands():
        for name, value in values.items():
            line = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", value, line)
        if line.startswith("aws emr"):
            line += f" --endpoint-url {ministack}"
        if "Bucket=" in line:
            line += " Database=docs"
        if "cloudformation deploy" in line:
            # the CLI names its change sets for the second
            time.sleep(1)
        code = aws_cli(line)
        out, err = capsys.readouterr()
        is_limit = line.startswith(LIMITS) and code in (1, 255)
        assert code == 0 or is_limit, f"{line}\n{err}"
        for id in re.findall(r'"ClusterId": "(j-\w+)"', out):
            values["j-ID"] = id
