"""cloud/emr.py run --serverless, against moto's AWS with the service's rules."""

import re

import aws
import pytest
from fake_aws import BUCKET, INPUT, LOG, OUTPUT, REGION, client, fill, fill_input, put_logs
from moto.emrserverless.models import emrserverless_backends
from rules import spark_settings
from test_emr import REFUSED, fail, later

from fake_aws import ACCOUNT  # isort: skip

RUN = ["run", "--input", INPUT, "--output", OUTPUT, "--serverless"]


@pytest.fixture
def places(account, recorded):
    fill_input()
    fill(later(recorded.report))


def the_run() -> str:
    runs = emrserverless_backends[ACCOUNT][REGION].job_runs.values()
    (run,) = [run for each in runs for run in each]
    return f"{run.application_id}/{run.id}"


def settings_of(requests: list) -> dict:
    (request,) = [given for name, given in requests if name == "emr-serverless.start_job_run"]
    return spark_settings(request)


@pytest.mark.parametrize("release", ["emr-spark-8.1.0", "emr-7.14.0"])
def test_a_run_shows_the_jobs_own_end(places, jobs, said, release):
    jobs(("SCHEDULED", "-"), ("RUNNING", "-"), ("SUCCESS", "-"))
    code, out, err = said(*RUN, "--release", release)
    assert code == 0, err
    assert f"started {the_run()}" in out and "The tables are in" in out
    assert re.findall(r"UTC  (\w+)", out) == ["SCHEDULED", "RUNNING", "SUCCESS"]


def test_a_run_that_failed_says_why(lake, jobs, said):
    jobs(("FAILED", "Job failed, please check complete logs"))
    move = aws.pause

    def put_driver_log(seconds):
        move(seconds)
        application, run = the_run().split("/")
        folder = f"{LOG}/applications/{application}/jobs/{run}/SPARK_DRIVER"
        put_logs(folder, "INFO", f"etl.py: {REFUSED}")

    aws.pause = put_driver_log
    code, _, err = said(*RUN)
    assert code == 1 and REFUSED in err
    assert REFUSED in said("status", the_run())[2]
    assert REFUSED in said("logs", the_run())[1]


@pytest.mark.parametrize("count", ["1", "2", "3", "10"])
def test_the_first_executors_are_no_more_than_the_most(lake, dry, count):
    """More fail the run at once; the account's rules hold for each request that is sent."""
    settings = settings_of(dry(*RUN, "--count", count))
    assert settings["spark.dynamicAllocation.maxExecutors"] == count
    first = int(settings["spark.dynamicAllocation.initialExecutors"])
    assert first == int(settings["spark.executor.instances"]) == min(3, int(count))


def test_the_driver_is_told_its_python_its_packages_and_its_region(lake, dry):
    settings = settings_of(dry(*RUN))
    driver = "spark.emr-serverless.driverEnv"
    assert settings[f"{driver}.AWS_DEFAULT_REGION"] == REGION
    assert settings[f"{driver}.PYTHONPATH"] == "packages"
    assert settings[f"{driver}.PYSPARK_DRIVER_PYTHON"] == "python3.11"
    assert settings["spark.archives"].endswith("/packages.zip#packages")


def test_what_large_runs_need_can_be_asked_for(places, jobs, said, requests):
    jobs(("SUCCESS", "-"))
    options = ["--driver-memory", "20g", "--disk", "500", "--conf", "spark.x=a b"]
    code, _, err = said(*RUN, *options, "--max-hours", "2", "--max-vcpu", "40")
    assert code == 0, err
    settings = settings_of(requests)
    assert settings["spark.driver.memory"] == "20g" and settings["spark.x"] == "a b"
    assert settings["spark.emr-serverless.executor.disk"] == "500g"
    assert settings["spark.emr-serverless.executor.disk.type"] == "shuffle_optimized"
    assert dict(requests)["emr-serverless.start_job_run"]["executionTimeoutMinutes"] == 120
    capacity = dict(requests)["emr-serverless.create_application"]["maximumCapacity"]
    assert (capacity["cpu"], capacity["memory"]) == ("40 vCPU", "160 GB")


def test_an_application_is_used_again_for_its_release_and_architecture(places, jobs, said):
    jobs(("SUCCESS", "-"))
    for more in ([], [], ["--architecture", "X86_64"]):
        assert said(*RUN, *more)[0] == 0
    made = client("emr-serverless").list_applications()["applications"]
    assert sorted(item["name"] for item in made) == [
        "sparkify-etl-emr-spark-8.1.0-arm64",
        "sparkify-etl-emr-spark-8.1.0-x86_64",
    ]


def test_a_run_that_may_have_started_is_said(lake, said, monkeypatch):
    fail(monkeypatch, "StartJobRun", KeyboardInterrupt())
    code, _, err = said(*RUN)
    named = r"a run on application \S+ may yet start; look with `python cloud/emr.py"
    assert code == 130 and re.search(named, err)


def test_a_repeated_request_starts_no_second_run(account):
    """boto3 fills the token in, and AWS answers a repeated one with the first run."""
    model = client("emr-serverless").meta.service_model.operation_model("StartJobRun")
    assert "clientToken" in model.idempotent_members


def test_status_lists_runs_that_are_being_cancelled_too(places, jobs, said):
    jobs(("CANCELLING", "-"))
    said(*RUN, "--detach")
    assert f"{the_run()} CANCELLING since" in said("status")[1]


def test_a_run_of_another_job_is_no_traceback(lake, said):
    serverless = client("emr-serverless")
    made = serverless.create_application(name="other", releaseLabel="emr-7.14.0", type="SPARK")
    run = serverless.start_job_run(
        applicationId=made["applicationId"],
        executionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/other",
        jobDriver={
            "sparkSubmit": {
                "entryPoint": "s3://x/y.py",
                "sparkSubmitParameters": "--conf spark.driver.cores=4 --conf spark.executor.cores=4"
                " --conf spark.driver.memory=14g --conf spark.executor.memory=14g",
            }
        },
    )
    for each in emrserverless_backends[ACCOUNT][REGION].job_runs.values():
        each[0].state = "FAILED"
    id = f"{made['applicationId']}/{run['jobRunId']}"
    for verb in ("status", "logs", "wait"):
        code, _, err = said(verb, id)
        assert (code, len(err.splitlines())) == (1, 1) and "keeps no logs on S3" in err


def test_logs_of_a_place_without_prefix_are_found(lake, jobs, said):
    jobs(("SUCCESS", "-"))
    assert said(*RUN, "--log", f"s3://{BUCKET}", "--detach")[0] == 0
    code, _, err = said("logs", the_run())
    assert code == 1 and "no log on S3 yet" in err
