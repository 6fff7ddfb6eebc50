"""A Slurm cluster of a few nodes on this machine. `python -m tests.helpers.slurm_cluster` starts one to try things on.

Each node is a set of namespaces (network, host name, processes, /dev/shm) with a real `slurmd`. It needs root and
Debian's packages `slurmctld slurmd slurm-client munge iproute2`. Partitions: `main`, and `low`, whose jobs are requeued
when `main` needs their nodes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

_TOOLS = ("slurmctld", "slurmd", "sbatch", "srun", "munged", "unshare", "ip")
_CONF = """
ClusterName=mineonline
SlurmctldHost={controller}({net}.254)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# a requeued job waits for credentials to expire
AuthInfo=socket={folder}/munge.sock,cred_expire=5
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=15
MinJobAge=3600
SlurmdTimeout=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n[1-{nodes}] NodeAddr={net}.[1-{nodes}] CPUs=16 RealMemory=64000 State=UNKNOWN
PartitionName=DEFAULT Nodes=ALL State=UP MaxTime=INFINITE
PartitionName=main Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
"""
# runs as the first process of a node, which ends with it
_NODE = """
hostname n{k}
mount --bind {folder}/hosts /etc/hosts
mount -t tmpfs shm /dev/shm
until ip link show eth0 > /dev/null 2>&1; do sleep 0.1; done
ip addr add {net}.{k}/24 dev eth0 && ip link set lo up && ip link set eth0 up
ip route add default via {net}.254
slurmd -D -f {folder}/slurm.conf -N n{k} &
wait
"""


def why_not() -> str | None:
    """Why no cluster can be started here, or None."""
    missing = [tool for tool in _TOOLS if shutil.which(tool, path=_path()) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge iproute2"
    if os.getuid() != 0:
        return "only root can make namespaces"
    if subprocess.run(["unshare", "--net", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode:
        return "this container may not make namespaces"
    return None


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


class SlurmCluster:
    """Runs while the context is open. At its end, everything on the nodes is killed."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        # of this process alone: others on this machine may have clusters, too
        self._net = f"198.18.{os.getpid() % 254 + 1}"
        self._bridge = f"ms{os.getpid() % 10**8}"
        self._port = 20000 + os.getpid() % 10000
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.env = {**os.environ, "PATH": _path(), "SLURM_CONF": str(self.folder / "slurm.conf")}
        self._stack = ExitStack()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> SlurmCluster:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, *words: str, **how) -> str:
        """The output of a command of Slurm's. Fails if the command does."""
        done = subprocess.run(words, env=self.env, text=True, capture_output=True, timeout=60, **how)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """`PENDING`, `RUNNING`, `COMPLETED`, ..."""
        return self.field(job, "JobState")

    def field(self, job: str, name: str) -> str:
        """A field of `scontrol show job`."""
        words = self.run("scontrol", "-o", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))

    def processes(self, word: str) -> dict[int, dict[str, str]]:
        """Process id (here) and environment of every process on the nodes whose command line has `word`."""
        found = {}
        for file in Path("/proc").glob("[0-9]*"):
            try:
                command = (file / "cmdline").read_bytes().decode(errors="replace")
                environ = (file / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            variables = dict(entry.partition("=")[::2] for entry in environ.split("\0"))
            if word in command and variables.get("SLURM_CONF") == self.env["SLURM_CONF"]:
                found[int(file.name)] = variables
        return found

    def kill_node(self, k: int) -> None:
        """Node `nk` loses power."""
        _end(self._processes[k])
        subprocess.run(["ip", "link", "del", f"{self._bridge}.{k}"], capture_output=True, env=self.env)

    def start_node(self, k: int) -> None:
        """Node `nk` is there again. Returns once jobs can run on it."""
        self._start_node(self._stack, k)
        _until(lambda: self.run("sinfo", "-h", "-n", f"n{k}", "-p", "main", "-t", "idle", "-o", "%D") == "1")

    def listening(self, k: int) -> set[str]:
        """Addresses that something listens at on node `nk`, as in /proc/net/tcp."""
        table = [line.split() for line in self._of_node(k, "net/tcp").read_text().splitlines()]
        return {words[1] for words in table if words[3] == "0A"}

    def shared_memory(self, k: int) -> list[str]:
        """What is in /dev/shm of node `nk`."""
        return sorted(file.name for file in self._of_node(k, "root/dev/shm").iterdir())

    def _of_node(self, k: int, file: str) -> Path:
        node = self._processes[k].pid  # `unshare`, outside of the node's processes, but its child is inside
        (child,) = Path(f"/proc/{node}/task/{node}/children").read_text().split()
        return Path("/proc", child, file)

    def _start(self, stack: ExitStack) -> None:
        f, hosts = self.folder, [f"{self._net}.{k} n{k}" for k in range(1, self._nodes + 1)]
        (f / "hosts").write_text(
            "\n".join(["127.0.0.1 localhost", f"{self._net}.254 {os.uname().nodename}", *hosts, ""])
        )
        conf = _CONF.format(controller=os.uname().nodename, net=self._net, folder=f, nodes=self._nodes, port=self._port)
        (f / "slurm.conf").write_text(conf)
        (f / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # the one that needs nothing of the host
        f.chmod(0o755)
        (f / "state").mkdir()
        key = f / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        self._spawn(stack, "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={f}/munge.sock",
                    f"--pid-file={f}/munged.pid", f"--log-file={f}/munged.log",
                    f"--seed-file={f}/munge.seed")  # fmt: skip
        self._ip("link", "add", self._bridge, "type", "bridge")
        stack.callback(self._ip, "link", "del", self._bridge)
        self._ip("addr", "add", f"{self._net}.254/24", "dev", self._bridge)
        self._ip("link", "set", self._bridge, "up")
        _until(lambda: (f / "munge.sock").exists())
        self._spawn(stack, "slurmctld", "-D", "-i", "-f", f"{f}/slurm.conf")
        for k in range(1, self._nodes + 1):
            self._start_node(stack, k)
        _until(lambda: self.run("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D") == str(self._nodes))

    def _start_node(self, stack: ExitStack, k: int) -> None:
        (self.folder / f"spool-n{k}").mkdir(exist_ok=True)
        apart = ["--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = _NODE.format(k=k, net=self._net, folder=self.folder)
        node = self._processes[k] = self._spawn(stack, "unshare", *apart, "bash", "-c", script)
        ours = Path("/proc/self/ns/net").readlink()
        _until(lambda: Path(f"/proc/{node.pid}/ns/net").readlink() != ours)
        link = f"{self._bridge}.{k}"
        self._ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(node.pid))
        self._ip("link", "set", link, "master", self._bridge, "up")

    def _spawn(self, stack: ExitStack, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{words[0]}.out").open("ab") as output:
            process = subprocess.Popen(words, env=self.env, cwd="/", stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=output, start_new_session=True)  # fmt: skip
        stack.callback(_end, process)
        return process

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, env=self.env)


def _until(condition, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"the cluster did not start within {limit_s:.0f} s"
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    reason = why_not()
    if reason:
        sys.exit(reason)
    with SlurmCluster(2) as cluster:
        print(f"export SLURM_CONF={cluster.env['SLURM_CONF']}    # Ctrl-C ends the cluster", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))  # or SIGTERM would kill it
        signal.sigwait((signal.SIGINT, signal.SIGTERM))
