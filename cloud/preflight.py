"""What can be found out before anything costs money: that both buckets exist, where, and whose."""

from __future__ import annotations

from aws import SETTINGS, Stop, error_code, split_s3
from botocore.exceptions import ClientError
from stack import Lake


def bucket_region(lake: Lake, bucket: str, hint: str, **owner: str) -> str:
    """A bucket's region; stops if the bucket cannot be used."""
    try:
        answer = lake.client("s3").head_bucket(Bucket=bucket, **owner)
    except ClientError as error:
        if error_code(error) not in ("403", "404"):
            raise
        text = f"Bucket {bucket} does not exist, or it belongs to somebody else."
        raise Stop(SETTINGS, f"{text} {hint}") from None
    return str(answer.get("BucketRegion") or lake.region)


def check_output(lake: Lake) -> None:
    bucket = split_s3(lake.output)[0]
    hint = "Deploy the stack with another Bucket."
    region = bucket_region(lake, bucket, hint, ExpectedBucketOwner=lake.outputs["Account"])
    if region != lake.region:
        raise Stop(SETTINGS, f"Bucket {bucket} is in {region}, the stack in {lake.region}. {hint}")


def check_input(lake: Lake, serverless: bool) -> None:
    bucket, prefix = split_s3(lake.input)
    hint = "Deploy the stack with another InputBucket or InputPrefix."
    region = bucket_region(lake, bucket, hint)
    if region != lake.region and serverless:
        text = f"Bucket {bucket} is in {region}, out of reach for EMR Serverless in {lake.region}."
        raise Stop(SETTINGS, f"{text} Deploy the stack there, or run without --serverless.")
    for dataset in ("song_data", "log_data"):
        below = f"{prefix}/{dataset}/".lstrip("/")
        answer = lake.client("s3").list_objects_v2(Bucket=bucket, Prefix=below, MaxKeys=1)
        if not answer.get("Contents"):
            raise Stop(SETTINGS, f"{lake.input} has no {dataset}/. {hint}")
        if f"{lake.output}/".startswith(f"{lake.input}/{dataset}/"):
            text = f"The tables in {lake.output} would be inside the input."
            raise Stop(SETTINGS, f"{text} Deploy the stack with another Prefix.")
