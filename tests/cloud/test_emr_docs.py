"""Every `aws` command of docs/emr.md, run by the AWS CLI against ministack in the page's order."""

import re
import subprocess
import time

from fake_aws import ACCOUNT, aws_cli, client, deployable
from helpers import ROOT

# what the emulator lacks: the CLI took the command, and this is the answer
LIMITS = {
    "aws emr create-default-roles": "AmazonElasticMapReduceforEC2Role not found",
    # it starts no machines
    "aws emr ssh": "",
    # the log and the tables of a job that did not run
    "aws s3 ls": "",
}


def commands() -> list[str]:
    """The page's commands without their comments."""
    text = (ROOT / "docs" / "emr.md").read_text()
    indented = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    joined = "\n".join(indented).replace("\\\n", " ")
    lines = [re.sub(r"\s{3,}#.*|> sparkify.pem$", "", line) for line in joined.splitlines()]
    return [line for line in lines if line.startswith("aws ")]


def test_the_aws_cli_takes_each_command_of_the_page(
    cloud, ministack, capsys, monkeypatch, tmp_path
):
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
    for command in commands():
        line = command
        for name, value in values.items():
            line = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", value, line)
        if line.startswith("aws emr"):
            line += f" --endpoint-url {ministack}"
        if "Bucket=" in line:
            line += " Database=docs"
        if line == "aws login":
            # of version 2, which PyPI does not have
            continue
        if "cloudformation deploy" in line:
            # the CLI names its change sets for the second
            time.sleep(1)
        code = aws_cli(line)
        out, err = capsys.readouterr()
        limit = next((LIMITS[start] for start in LIMITS if line.startswith(start)), None)
        assert code == 0 or (limit is not None and limit in err), f"{line}\n{err}"
        for id in re.findall(r'"ClusterId": "(j-\w+)"', out):
            values["j-ID"] = id
