"""Who may do what: the job on its nodes, the EMR service, and the person who launches.

Each function returns a policy document with the names filled in and nothing in it that is not used: tests compare the
job's with the requests of real runs, and the launcher's with the requests of the commands in this folder.
"""

from __future__ import annotations

from typing import NamedTuple

from aws import NAME, join_key, split_s3

JOB_ROLE, SERVICE_ROLE, LAUNCH_POLICY = f"{NAME}-job", f"{NAME}-service", f"{NAME}-launch"
OURS = {"application": NAME}
FOR_EMR = {
    "for-use-with-amazon-emr-managed-policies": "true"
}  # AmazonEMRServicePolicy_v2 touches nothing without it
TAGS = {**OURS, **FOR_EMR}


class Names(NamedTuple):
    """What fills the policies in.  Places are s3:// URIs; `work` holds code, `log` what EMR logs."""

    partition: str
    region: str
    account: str
    input: str
    output: str
    work: str
    log: str

    def arn(self, service: str, resource: str, region: str = "") -> str:
        return f"arn:{self.partition}:{service}:{region}:{self.account}:{resource}"

    def bucket(self, uri: str) -> str:
        return f"arn:{self.partition}:s3:::{split_s3(uri)[0]}"

    def objects(self, uri: str, *below: str) -> str:
        bucket, prefix = split_s3(uri)
        return f"arn:{self.partition}:s3:::{join_key(bucket, prefix, *below, '*')}"

    def role(self, name: str) -> str:
        return self.arn("iam", f"role/{name}")


def document(*statements: dict) -> dict:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", **statement} for statement in statements],
    }


def may(actions: str, *resources: str, **conditions: dict) -> dict:
    """A statement: actions, separated by blanks; a condition for each operator that is named."""
    statement = {"Action": actions.split(), "Resource": sorted(set(resources)) or ["*"]}
    return {**statement, "Condition": conditions} if conditions else statement


def may_list(names: Names, uri: str) -> dict:
    """Listing what lies below a place.  HeadBucket, which tells the region, has no prefix and is allowed too."""
    prefix = split_s3(uri)[1]
    below = {"StringLikeIfExists": {"s3:prefix": f"{prefix}/*"}} if prefix else {}
    return may("s3:ListBucket", names.bucket(uri), **below)


def job_policy(names: Names) -> dict:
    """The job: reads its input, its code and what it wrote; writes and deletes below OUTPUT; leaves logs."""
    log_data = names.objects(
        names.input, "log_data"
    )  # Spark asks whether the folder is an object, too
    return document(
        may_list(names, names.input),
        may_list(names, names.output),
        may(
            "s3:GetObject",
            names.objects(names.input, "song_data"),
            log_data,
            log_data.removesuffix("/*"),
        ),
        may(
            "s3:GetObject s3:PutObject s3:DeleteObject s3:AbortMultipartUpload",
            names.objects(names.output),
        ),
        may("s3:GetObject", names.objects(names.work, "code")),
        may("s3:PutObject", names.objects(names.log)),
    )


def service_policy(names: Names) -> dict:
    """What the EMR service needs besides AWS's own AmazonEMRServicePolicy_v2: to hand the job's role to the nodes."""
    to_nodes = {"iam:PassedToService": "ec2.amazonaws.com"}
    return document(may("iam:PassRole", names.role(JOB_ROLE), StringEquals=to_nodes))


def launch_policy(names: Names) -> dict:
    """The person who launches: this job's clusters and applications, its code, logs and catalogue; nobody else's."""
    ours = {f"aws:ResourceTag/{key}": value for key, value in OURS.items()}
    tagged = {f"aws:RequestTag/{key}": value for key, value in OURS.items()}
    clusters = names.arn("elasticmapreduce", "cluster/*", names.region)
    applications = names.arn("emr-serverless", "/applications/*", names.region)
    catalog = [
        names.arn("glue", resource, names.region)
        for resource in ("catalog", "database/*", "table/*/*")
    ]
    passes = {"iam:PassedToService": ["ec2.amazonaws.com", "emr-serverless.amazonaws.com"]}
    return document(
        may("elasticmapreduce:RunJobFlow", StringEquals=tagged),
        may("elasticmapreduce:AddTags", clusters, StringEquals=tagged),
        # RunJobFlow asks for it, maybe before the new cluster has its tags
        may("elasticmapreduce:PutAutoTerminationPolicy", clusters, StringEqualsIfExists=ours),
        may("elasticmapreduce:ListClusters ec2:DescribeSubnets pricing:GetProducts"),
        may(
            "elasticmapreduce:DescribeCluster elasticmapreduce:ListSteps elasticmapreduce:TerminateJobFlows",
            clusters,
            StringEquals=ours,
        ),
        may("emr-serverless:CreateApplication emr-serverless:TagResource", StringEquals=tagged),
        may("emr-serverless:ListApplications"),
        may(
            "emr-serverless:GetApplication emr-serverless:StartJobRun emr-serverless:ListJobRuns "
            "emr-serverless:GetJobRun emr-serverless:CancelJobRun",
            applications,
            f"{applications}/jobruns/*",
            StringEquals=ours,
        ),
        may("iam:PassRole", names.role(JOB_ROLE), StringEquals=passes),
        may(
            "iam:PassRole",
            names.role(SERVICE_ROLE),
            StringEquals={"iam:PassedToService": "elasticmapreduce.amazonaws.com"},
        ),
        may_list(names, names.output),
        may_list(names, names.log),
        may("s3:PutObject", names.objects(names.work, "code")),
        may("s3:GetObject", names.objects(names.log), names.objects(names.output)),
        may(
            "glue:GetDatabase glue:CreateDatabase glue:GetTable glue:CreateTable glue:UpdateTable "
            "glue:GetPartitions glue:BatchCreatePartition glue:BatchUpdatePartition glue:BatchDeletePartition",
            *catalog,
        ),
    )


def trust(names: Names, *services: str) -> dict:
    """Lets AWS services take a role on behalf of this account and no other."""
    statement = {"Action": "sts:AssumeRole", "Principal": {"Service": list(services)}}
    condition = {
        "StringEqualsIfExists": {"aws:SourceAccount": names.account}
    }  # EC2 does not send it
    return document({**statement, "Condition": condition})
