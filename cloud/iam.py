"""Who may do what: the job, the EMR service, the person who launches, the person who queries.

Each function returns a policy with the names filled in and nothing in it that is not used: tests
compare the job's with the requests of real runs, and the launcher's with those of the commands.
"""

from __future__ import annotations

from typing import NamedTuple

from aws import join_key, split_s3

# AmazonEMRServicePolicy_v2 touches nothing that lacks this tag
FOR_EMR = {"for-use-with-amazon-emr-managed-policies": "true"}


class Names(NamedTuple):
    """What fills the policies in: everything that is made for one lake in one account.

    Places are s3:// URIs; `work` holds code and Athena's results, `log` what EMR logs.
    """

    account: str
    name: str
    input: str
    output: str
    work: str
    log: str
    database: str
    keys: tuple[str, ...] = ()  # ARNs of the KMS keys that the buckets are encrypted with

    @property
    def job_role(self) -> str:
        return f"{self.name}-job"

    @property
    def service_role(self) -> str:
        return f"{self.name}-service"

    @property
    def launch_policy(self) -> str:
        return f"{self.name}-launch"

    @property
    def read_policy(self) -> str:
        return f"{self.name}-read"

    @property
    def results(self) -> str:
        return f"{self.work}/athena"

    def arn(self, service: str, resource: str) -> str:
        """IAM has no region, and a run may be in any: it is still to be ended from elsewhere."""
        region = "" if service == "iam" else "*"
        return f"arn:aws:{service}:{region}:{self.account}:{resource}"

    def bucket(self, uri: str) -> str:
        return f"arn:aws:s3:::{split_s3(uri)[0]}"

    def objects(self, uri: str, *below: str) -> str:
        bucket, prefix = split_s3(uri)
        return f"arn:aws:s3:::{join_key(bucket, prefix, *below, '*')}"

    def role(self, name: str) -> str:
        return self.arn("iam", f"role/{name}")

    def policy(self, name: str) -> str:
        return self.arn("iam", f"policy/{name}")

    def glue(self) -> list[str]:
        resources = ("catalog", f"database/{self.database}", f"table/{self.database}/*")
        return [self.arn("glue", resource) for resource in resources]


def own_tag(name: str) -> dict[str, str]:
    """The tag of all that one lake's commands make; policies are conditioned on it."""
    return {"application": name}


def subnet_tag(name: str) -> dict[str, str]:
    """The tag of the subnets that one lake's runs start in; a subnet may serve several lakes."""
    return {f"{name}-subnet": "true"}


def all_tags(name: str) -> dict[str, str]:
    return {**own_tag(name), **FOR_EMR}


def document(*statements: dict) -> dict:
    allowed = [{"Effect": "Allow", **statement} for statement in statements]
    return {"Version": "2012-10-17", "Statement": allowed}


def may(actions: str, *resources: str, **conditions: dict) -> dict:
    """A statement: actions, separated by blanks; a condition for each operator that is named."""
    statement = {"Action": actions.split(), "Resource": sorted(set(resources)) or ["*"]}
    if conditions:
        statement["Condition"] = conditions
    return statement


def may_list(names: Names, uri: str, actions: str = "s3:ListBucket") -> dict:
    """Listing what lies below a place.

    HeadBucket, which tells the region, has no prefix and is allowed too.
    """
    prefix = split_s3(uri)[1]
    if not prefix:
        return may(actions, names.bucket(uri))
    below = {"s3:prefix": f"{prefix}/*"}
    return may(actions, names.bucket(uri), StringLikeIfExists=below)


def may_use_keys(names: Names, actions: str) -> list[dict]:
    """Reading and writing in buckets that KMS keys encrypt; nothing if there are none."""
    return [may(actions, *names.keys)] if names.keys else []


def job_policy(names: Names) -> dict:
    """The job: reads its input, its code and what it wrote; writes below OUTPUT; leaves logs."""
    log_data = names.objects(names.input, "log_data")
    return document(
        may_list(names, names.input),
        # EMR's own committer lists unfinished uploads, to end those of failed tasks
        may_list(names, names.output, "s3:ListBucket s3:ListBucketMultipartUploads"),
        may(
            "s3:GetObject",
            names.objects(names.input, "song_data"),
            log_data,
            # Spark asks whether the folder is an object, too
            log_data.removesuffix("/*"),
        ),
        may(
            "s3:GetObject s3:PutObject s3:DeleteObject s3:AbortMultipartUpload "
            "s3:ListMultipartUploadParts",
            names.objects(names.output),
        ),
        may("s3:GetObject", names.objects(names.work, "code")),
        may("s3:PutObject", names.objects(names.log)),
        *may_use_keys(names, "kms:Decrypt kms:GenerateDataKey"),
    )


def service_policy(names: Names) -> dict:
    """What EMR needs besides its AmazonEMRServicePolicy_v2: to hand the job's role to the nodes."""
    to_nodes = {"iam:PassedToService": "ec2.amazonaws.com"}
    return document(may("iam:PassRole", names.role(names.job_role), StringEquals=to_nodes))


def launch_policy(names: Names) -> dict:
    """The person who launches: this lake's clusters, runs, code, logs and catalogue alone.

    The tag decides, and this policy may give it only to what does not carry another's.  A cluster
    that somebody left without an `application` tag could be taken over: tag yours.
    """
    own = own_tag(names.name)
    ours = {f"aws:ResourceTag/{key}": value for key, value in own.items()}
    tagged = {f"aws:RequestTag/{key}": value for key, value in own.items()}
    clusters = names.arn("elasticmapreduce", "cluster/*")
    applications = names.arn("emr-serverless", "/applications/*")
    runs = f"{applications}/jobruns/*"
    to_emr = {"iam:PassedToService": "elasticmapreduce.amazonaws.com"}
    to_workers = {"iam:PassedToService": ["ec2.amazonaws.com", "emr-serverless.amazonaws.com"]}
    return document(
        may("elasticmapreduce:RunJobFlow", StringEquals=tagged),
        # RunJobFlow asks for these two, maybe before the new cluster has its tags
        may(
            "elasticmapreduce:AddTags",
            clusters,
            StringEquals=tagged,
            StringEqualsIfExists=ours,
        ),
        may("elasticmapreduce:PutAutoTerminationPolicy", clusters, StringEqualsIfExists=ours),
        may("elasticmapreduce:ListClusters ec2:DescribeSubnets pricing:GetProducts"),
        may(
            "elasticmapreduce:DescribeCluster elasticmapreduce:ListSteps "
            "elasticmapreduce:ListInstances elasticmapreduce:AddJobFlowSteps "
            "elasticmapreduce:CancelSteps elasticmapreduce:TerminateJobFlows",
            clusters,
            StringEquals=ours,
        ),
        may("emr-serverless:CreateApplication", StringEquals=tagged),
        may(
            "emr-serverless:TagResource",
            applications,
            StringEquals=tagged,
            StringEqualsIfExists=ours,
        ),
        may("emr-serverless:ListApplications"),
        may(
            "emr-serverless:GetApplication emr-serverless:StartJobRun emr-serverless:ListJobRuns "
            "emr-serverless:GetJobRun emr-serverless:CancelJobRun "
            "emr-serverless:GetDashboardForJobRun",
            applications,
            runs,
            StringEquals=ours,
        ),
        may("iam:PassRole", names.role(names.job_role), StringEquals=to_workers),
        may("iam:PassRole", names.role(names.service_role), StringEquals=to_emr),
        may_list(names, names.input),
        may_list(names, names.output),
        may_list(names, names.work),
        may_list(names, names.log),
        may("s3:PutObject", names.objects(names.work, "code")),
        may("s3:GetObject", names.objects(names.log), names.objects(names.output)),
        *may_use_keys(names, "kms:Decrypt kms:GenerateDataKey"),
        may(
            "glue:GetDatabase glue:CreateDatabase glue:GetTable glue:CreateTable glue:UpdateTable "
            "glue:GetPartitions glue:BatchCreatePartition glue:BatchUpdatePartition "
            "glue:BatchDeletePartition",
            *names.glue(),
        ),
    )


def read_policy(names: Names) -> dict:
    """The person who queries: Athena in this lake's workgroup, over this lake's tables alone."""
    return document(
        may(
            "athena:GetWorkGroup athena:StartQueryExecution athena:StopQueryExecution "
            "athena:GetQueryExecution athena:GetQueryResults athena:BatchGetQueryExecution "
            "athena:ListQueryExecutions",
            names.arn("athena", f"workgroup/{names.name}"),
        ),
        may("athena:ListWorkGroups athena:ListDataCatalogs"),
        may("athena:GetDataCatalog", names.arn("athena", "datacatalog/AwsDataCatalog")),
        may(
            "glue:GetDatabase glue:GetDatabases glue:GetTable glue:GetTables glue:GetPartition "
            "glue:GetPartitions glue:BatchGetPartition",
            *names.glue(),
        ),
        may("s3:GetBucketLocation", names.bucket(names.output), names.bucket(names.results)),
        may_list(names, names.output),
        may_list(names, names.results),
        may("s3:GetObject", names.objects(names.output)),
        may(
            "s3:GetObject s3:PutObject s3:AbortMultipartUpload s3:ListMultipartUploadParts",
            names.objects(names.results),
        ),
        *may_use_keys(names, "kms:Decrypt kms:GenerateDataKey"),
    )


def trust(names: Names, *services: str) -> dict:
    """Lets AWS services take a role on behalf of this account and no other."""
    # EC2 does not send the account, hence IfExists
    by_us = {"StringEqualsIfExists": {"aws:SourceAccount": names.account}}
    statement = {
        "Action": "sts:AssumeRole",
        "Principal": {"Service": list(services)},
        "Condition": by_us,
    }
    return document(statement)
