"""What can be known of the places before anything is billed: that they exist, where, and whose."""

from __future__ import annotations

from aws import SETTINGS, Aws, ClientError, Stop, error_code, join_key, split_s3


def bucket_region(aws: Aws, bucket: str, **owner: str) -> str | None:
    """The region of a bucket, which S3 tells even those who may not look in; None if none is so."""
    try:
        answer = aws.ask("s3", "head_bucket", Bucket=bucket, **owner)
    except ClientError as error:
        if error_code(error) == "404":
            return None
        region = error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        if region is None:
            raise
        if owner:
            remedy = "name one of this account, or let its owner allow this identity"
            raise Stop(SETTINGS, f"s3://{bucket}: not this account's bucket; {remedy}") from None
        return region
    return answer.get("BucketRegion") or aws.region


def check_output_region(aws: Aws, region: str, output: str) -> None:
    if region != aws.region:
        remedy = f"run there (--region {region}), or choose another OUTPUT"
        raise Stop(SETTINGS, f"{output}: its bucket is in {region}, not in {aws.region}; {remedy}")


def check_apart(source: str, output: str) -> None:
    """OUTPUT may not be what the job reads."""
    for side in ("song_data", "log_data"):
        if f"{output}/".startswith(f"{source}/{side}/"):
            raise Stop(SETTINGS, f"{output}: inside {source}/{side}; choose another OUTPUT")


def check_input(aws: Aws, options) -> None:
    """INPUT's bucket exists, and holds song_data/ and log_data/."""
    bucket, prefix = split_s3(options.input)
    region = bucket_region(aws, bucket)
    if region is None:
        raise Stop(SETTINGS, f"{options.input}: there is no such bucket; correct --input")
    if region != aws.region and options.serverless:
        remedy = f"use --region {region}, a cluster, or a copy of INPUT"
        raise Stop(
            SETTINGS,
            f"{options.input}: its bucket is in {region}, and EMR Serverless reaches S3 of "
            f"{aws.region} only; {remedy}",
        )
    if region != aws.region:
        aws.say(f"{options.input} is in {region}: AWS bills its transfer to {aws.region}")
    for side in ("song_data", "log_data"):
        below = join_key(prefix, side) + "/"
        try:
            answer = aws.ask("s3", "list_objects_v2", Bucket=bucket, Prefix=below, MaxKeys=1)
        except ClientError as error:
            if error_code(error) != "AccessDenied":
                raise
            aws.say(f"{options.input}: this identity may not look in; the job's role decides")
            return
        if not answer.get("Contents"):
            remedy = "correct --input"
            raise Stop(SETTINGS, f"{options.input}: nothing below {side}/ there; {remedy}")


def check_places(aws: Aws, options) -> None:
    """Stops before a run that could only fail."""
    check_apart(options.input, options.output)
    buckets = {split_s3(uri)[0]: uri for uri in (options.log, options.work, options.output)}
    for bucket, uri in sorted(buckets.items()):
        region = bucket_region(aws, bucket, ExpectedBucketOwner=aws.account)
        if region is None:
            raise Stop(SETTINGS, f"{uri}: there is no such bucket; `emr.py setup` creates it")
        check_output_region(aws, region, uri)
    check_input(aws, options)
