"""YARN with HDFS, and Spark's standalone cluster, as processes of their own on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from pyspark.find_spark_home import _find_spark_home

import etl
from tests.helpers import ROOT, free_port

SPARK_HOME = _find_spark_home()
[CLIENT_JAR] = Path(SPARK_HOME, "jars").glob("hadoop-client-api-*.jar")
HADOOP = CLIENT_JAR.stem.rpartition("-")[2]
OPENS = [
    f"--add-opens=java.base/java.{name}=ALL-UNNAMED"
    for name in ("lang", "util", "io", "net", "nio")
]
DAEMONS = {
    "namenode": "org.apache.hadoop.hdfs.server.namenode.NameNode",
    "datanode": "org.apache.hadoop.hdfs.server.datanode.DataNode",
    "resourcemanager": "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager",
    "nodemanager": "org.apache.hadoop.yarn.server.nodemanager.NodeManager",
}


def wait_for(what: str, is_there, seconds: int = 180):
    """What a check returns once it is true; its errors count as not yet."""
    for _ in range(seconds * 4):
        with contextlib.suppress(OSError, LookupError, ValueError):
            found = is_there()
            if found:
                return found
        time.sleep(0.25)
    raise TimeoutError(f"{what}: not there after {seconds} seconds")


def pids(*words: str) -> list[int]:
    """Processes whose command line holds all of some words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().decode(errors="replace")
            if all(word in line for word in words):
                found.append(int(path.parent.name))
    return found


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Submitted:
    """A running spark-submit, whose streams go to files: a full pipe would stop it."""

    def __init__(self, command: list[str], cwd: Path, environment: dict):
        self.streams = [(cwd / name).open("w+") for name in ("stdout", "stderr")]
        out, err = self.streams
        self.process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=out, stderr=err)

    def said(self) -> list[str]:
        """All that it wrote until now, to stdout and to stderr."""
        return [Path(stream.name).read_text() for stream in self.streams]

    def runs(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"spark-submit ended too soon: {''.join(self.said())[-3000:]}")
        return True

    def ended(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr, once it is over."""
        return self.process.wait(900), *self.said()


class Cluster:
    """Daemons that start and end together.  `mark` is in the command line of all they start."""

    def __init__(self, folder: Path):
        self.folder, self.daemons = folder, []
        self.environment = {**os.environ, "SPARK_HOME": SPARK_HOME, "SPARK_LOCAL_IP": "127.0.0.1"}
        search = f"{os.environ.get('JAVA_HOME', '')}/bin:{os.environ['PATH']}"
        java = Path(shutil.which("java", path=search)).resolve()
        self.environment["JAVA_HOME"] = str(java.parents[1])
        for name in ("SPARK_CONF_DIR", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
            self.environment.pop(name, None)

    def start(self, name: str, *command: str) -> None:
        log = (self.folder / f"{name}.log").open("w")
        options = {"stdout": log, "stderr": log, "cwd": self.folder, "env": self.environment}
        self.daemons.append(subprocess.Popen(command, **options))

    def stop(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.kill()
            daemon.wait(30)
        kill(*pids(self.mark))

    def submit(self, *arguments: str, cwd: Path) -> Submitted:
        """spark-submit of etl.py, with executors that have no Python."""
        settings = {
            "spark.pyspark.driver.python": sys.executable,
            "spark.pyspark.python": "/bin/false",
            "spark.ui.enabled": "false",
            "spark.log.level": "WARN",
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
            "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1",
            "spark.executor.cores": "1",
            "spark.executor.memory": "512m",
            "spark.driver.memory": "768m",
            "spark.default.parallelism": "2",
            "spark.sql.shuffle.partitions": "2",
            **etl.s3a_packages(),
            **self.settings,
        }
        command = [f"{SPARK_HOME}/bin/spark-submit", "--master", self.master]
        for name, value in settings.items():
            command += ["--conf", f"{name}={value}"]
        return Submitted([*command, *arguments], cwd, self.environment)

    def executors(self) -> list[int]:
        return pids("CoarseGrainedExecutorBackend", self.mark)


class Yarn(Cluster):
    """YARN and HDFS, with one node each."""

    master = "yarn"

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.mark, host = str(folder), "127.0.0.1"
        ports = {
            name: f"{host}:{free_port()}"
            for name in "nn nn-http dn dn-http dn-ipc rm rm-http rms rmt rma nm nml nm-http".split()
        }
        self.web = f"http://{ports['rm-http']}/ws/v1/cluster"
        beans = "Hadoop:service=NameNode,name=FSNamesystemState"
        self.names = f"http://{ports['nn-http']}/jmx?qry={beans}"
        conf = folder / "conf"
        conf.mkdir()
        self.environment["HADOOP_CONF_DIR"] = str(conf)
        self.settings = {
            "spark.executor.instances": "2",
            "spark.yarn.jars": f"local:{SPARK_HOME}/jars/*",
            "spark.yarn.appMasterEnv.SPARK_LOCAL_IP": host,
            "spark.yarn.appMasterEnv.JAVA_HOME": self.environment["JAVA_HOME"],
            "spark.executorEnv.SPARK_LOCAL_IP": host,
            "spark.executorEnv.JAVA_HOME": self.environment["JAVA_HOME"],
        }
        hdfs = {
            "dfs.namenode.http-address": ports["nn-http"],
            "dfs.datanode.address": ports["dn"],
            "dfs.datanode.http.address": ports["dn-http"],
            "dfs.datanode.ipc.address": ports["dn-ipc"],
            "dfs.namenode.name.dir": f"file://{folder}/names",
            "dfs.datanode.data.dir": f"file://{folder}/blocks",
            "dfs.replication": "1",
            "dfs.permissions.enabled": "false",
        }
        yarn = {
            "yarn.resourcemanager.hostname": host,
            "yarn.resourcemanager.address": ports["rm"],
            "yarn.resourcemanager.scheduler.address": ports["rms"],
            "yarn.resourcemanager.resource-tracker.address": ports["rmt"],
            "yarn.resourcemanager.admin.address": ports["rma"],
            "yarn.resourcemanager.webapp.address": ports["rm-http"],
            "yarn.nodemanager.hostname": host,
            "yarn.nodemanager.address": ports["nm"],
            "yarn.nodemanager.localizer.address": ports["nml"],
            "yarn.nodemanager.webapp.address": ports["nm-http"],
            "yarn.nodemanager.local-dirs": f"{folder}/containers",
            "yarn.nodemanager.log-dirs": f"{folder}/logs",
            "yarn.nodemanager.resource.memory-mb": "8192",
            "yarn.nodemanager.resource.cpu-vcores": "4",
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99",
            "yarn.nodemanager.delete.debug-delay-sec": "600",
            "yarn.scheduler.minimum-allocation-mb": "256",
        }
        capacity = {
            "yarn.scheduler.capacity.maximum-am-resource-percent": "1.0",
            "yarn.scheduler.capacity.root.queues": "default",
            "yarn.scheduler.capacity.root.default.capacity": "100",
        }
        core = {"fs.defaultFS": f"hdfs://{ports['nn']}", "hadoop.tmp.dir": f"{folder}/tmp"}
        files = {
            "core-site": core,
            "hdfs-site": hdfs,
            "yarn-site": yarn,
            "capacity-scheduler": capacity,
        }
        for name, values in files.items():
            items = "".join(
                f"<property><name>{key}</name><value>{value}</value></property>"
                for key, value in values.items()
            )
            (conf / f"{name}.xml").write_text(f"<configuration>{items}</configuration>")
        paths = folder / "classpath"
        maven = ["mvn", "-q", "-B", "-f", ROOT / "tests" / "cluster" / "pom.xml"]
        maven += [f"-Dhadoop.version={HADOOP}", "dependency:build-classpath"]
        maven += ["-DincludeScope=test", f"-Dmdep.outputFile={paths}"]
        subprocess.run(maven, check=True)
        java = [f"{self.environment['JAVA_HOME']}/bin/java", "-Xmx384m", "-XX:TieredStopAtLevel=1"]
        java += [*OPENS, "-Djava.net.preferIPv4Stack=true", "-cp", f"{conf}:{paths.read_text()}"]
        prepare = [*java, DAEMONS["namenode"], "-format", "-nonInteractive"]
        subprocess.run(prepare, check=True, capture_output=True)
        for name, main in DAEMONS.items():
            self.start(name, *java, main)
        wait_for("HDFS", lambda: self.ask(self.names)["beans"][0]["NumLiveDataNodes"] == 1)
        wait_for(
            "YARN", lambda: self.ask(f"{self.web}/metrics")["clusterMetrics"]["activeNodes"] == 1
        )

    def ask(self, url: str) -> dict:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def newest_application(self) -> dict:
        return max(self.ask(f"{self.web}/apps")["apps"]["app"], key=lambda item: item["id"])

    def attempts(self) -> int:
        """How often YARN ran the driver of the newest application."""
        found = self.ask(f"{self.web}/apps/{self.newest_application()['id']}/appattempts")
        return len(found["appAttempts"]["appAttempt"])

    def drivers(self) -> list[int]:
        java = f"{self.environment['JAVA_HOME']}/bin/java"
        return pids("org.apache.spark.deploy.yarn.ApplicationMaster", self.mark, java)

    def driver_logs(self) -> str:
        """What the drivers of the newest application wrote."""
        folder = self.folder / "logs" / self.newest_application()["id"]
        return "".join(path.read_text() for path in sorted(folder.glob("*_000001/std*")))


class Standalone(Cluster):
    """Spark's own cluster manager with one worker."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        port, worker, web = free_port(), free_port(), free_port()
        self.master = f"spark://127.0.0.1:{port}"
        self.mark = f"127.0.0.1:{worker}"
        self.settings = {}
        spark_class = f"{SPARK_HOME}/bin/spark-class"
        master = f"--host 127.0.0.1 --port {port} --webui-port {web}"
        self.start("master", spark_class, "org.apache.spark.deploy.master.Master", *master.split())
        work = f"--host 127.0.0.1 --port {worker} --webui-port {free_port()} --cores 2 --memory 2g"
        work = [*work.split(), "--work-dir", str(folder / "work"), self.master]
        self.start("worker", spark_class, "org.apache.spark.deploy.worker.Worker", *work)

        def is_up():
            with urllib.request.urlopen(f"http://127.0.0.1:{web}/json/", timeout=10) as answer:
                return json.load(answer)["aliveworkers"] == 1

        wait_for("the standalone cluster", is_up)
