"""What a run costs: before it at most, and after it about."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime

import serverless
from aws import SETTINGS, Aws, Stop
from runs import is_cluster

# USD per hour, us-east-1, list price of 2025
SERVERLESS_RATES = {
    "ARM64": {"vCPU": 0.042094, "memoryGB": 0.004628},
    "X86_64": {"vCPU": 0.052624, "memoryGB": 0.0057785},
}
LEFT_OUT = (
    "Left out: EBS volumes, S3 requests and storage, data transfer between regions, "
    "public IPv4 addresses, Athena, tax."
)


def price(aws: Aws, service: str, **terms: str) -> float:
    """USD per hour, on demand, of the one product that matches; the price list knows no other."""
    terms["regionCode"] = aws.region
    filters = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in terms.items()
    ]
    found = aws.each("pricing", "get_products", "PriceList", ServiceCode=service, Filters=filters)
    for item in found:
        (term,) = json.loads(item)["terms"]["OnDemand"].values()
        (dimension,) = term["priceDimensions"].values()
        return float(dimension["pricePerUnit"]["USD"])
    remedy = "name another type with --instance-types"
    raise Stop(SETTINGS, f"{terms['instanceType']}: no price in {aws.region}; {remedy}")


def node_price(aws: Aws, instance_type: str) -> float:
    """USD per hour of one node: EC2's and EMR's part."""
    linux = {
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    machine = price(aws, "AmazonEC2", instanceType=instance_type, **linux)
    return machine + price(aws, "ElasticMapReduce", instanceType=instance_type, softwareType="EMR")


def estimate(aws: Aws, options) -> str:
    """What a run of some hours costs at most."""
    workers = options.count + 1
    if options.serverless:
        rates = SERVERLESS_RATES[options.architecture]
        vcpus = serverless.CORES * workers
        hourly = vcpus * rates["vCPU"] + 4 * vcpus * rates["memoryGB"]
        what = f"a driver and {options.count} executors of 4 vCPU and 16 GB, at us-east-1's prices"
    else:
        name = options.instance_types.split(",")[0]
        each = node_price(aws, name)
        hourly = each * workers
        what = f"{workers} {name} at {each:.4f} USD per hour, EC2 and EMR"
    total = hourly * options.hours
    return (
        f"{what}: {hourly:.2f} USD per hour, {total:.2f} USD in {options.hours:g} hours\n"
        f"{LEFT_OUT}\n"
        "Spot instances cost less than counted here; starting takes 5 to 10 minutes of the hours."
    )


def spent(aws: Aws, id: str) -> str:
    """What a run that has ended cost, about."""
    if not is_cluster(id):
        return of_serverless(aws, id)
    if "/" in id:
        return "no cost is counted: the cluster is shared, and goes on"
    return of_cluster(aws, id)


def of_cluster(aws: Aws, id: str) -> str:
    """The hours of each node, from its start to its end, at the price on demand."""
    hours = defaultdict(float)
    for node in aws.each("emr", "list_instances", "Instances", ClusterId=id):
        times = node["Status"]["Timeline"]
        ended = times.get("EndDateTime") or datetime.now(UTC)
        seconds = (ended - times["CreationDateTime"]).total_seconds()
        hours[node["InstanceType"]] += seconds / 3600
    total = sum(node_price(aws, name) * spent for name, spent in hours.items())
    nodes = " and ".join(f"{spent:.2f} hours of {name}" for name, spent in hours.items())
    return f"about {total:.2f} USD at most: {nodes}, at the price on demand, EBS and S3 left out"


def of_serverless(aws: Aws, id: str) -> str:
    """What the service says that it bills, at us-east-1's price."""
    run = serverless.described(aws, id)
    billed = run.get("billedResourceUtilization", {})
    wanted = {"applicationId": run["applicationId"]}
    application = aws.ask("emr-serverless", "get_application", **wanted)["application"]
    rates = SERVERLESS_RATES[application.get("architecture", "X86_64")]
    vcpu_hours = billed.get("vCPUHour", 0)
    memory_hours = billed.get("memoryGBHour", 0)
    total = vcpu_hours * rates["vCPU"] + memory_hours * rates["memoryGB"]
    what = f"{vcpu_hours:.2f} vCPU-hours and {memory_hours:.2f} GB-hours of memory"
    return f"about {total:.2f} USD: {what}, at us-east-1's prices, S3 left out"
