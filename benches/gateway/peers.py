#!/usr/bin/env python3
"""The gateway beside its peers, on one stub upstream with one load generator, in turns.

    cargo build --release -p elenchus-cli && cargo build --release -p elenchus-serve --example gateway_bench
    python3 benches/gateway/peers.py --work DIR [--rounds 3] [--seconds 5] [--peers litellm,optillm,its_hub]

Each peer is installed from PyPI into a virtual environment of its own under DIR, once. In every round each server is started,
asked and stopped in turn, so that what else the machine does falls on all of them. What cannot be installed or does not
answer is said, with the reason, and left out. Written to standard output: one line of JSON for each measurement, then a table of
medians. The gateway stores a trace of every request while it is measured; the peers store nothing.
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUESTION = [{"role": "user", "content": "What is 2+2?"}]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def plain(model="m"):
    return {"model": model, "messages": QUESTION}


class Elenchus:
    """Our own gateway."""

    def __init__(self, options):
        self.program = options.elenchus

    def install(self, work):
        if not self.program.exists():
            raise RuntimeError(f"{self.program} is missing: cargo build --release -p elenchus-cli")

    def start(self, work, upstream, port):
        store = work / "elenchus-store.sqlite"
        for left in work.glob("elenchus-store.sqlite*"):
            left.unlink()
        return [[str(self.program), "serve", "--no-embedded", "--port", str(port), "--log", "off",
                 "--upstream", f"http://{upstream}/v1", "--store", str(store)], {}]

    def ready(self, port):
        return None

    body = plain()
    vote = {**plain("elenchus/self-consistency@5/m"), "elenchus": {"settings": {"early_stop": False}}}


class Peer:
    """A peer from PyPI."""

    packages = ()
    body = plain()
    # The peer's own vote of five, where it has one.
    vote = None

    def __init__(self, options):
        pass

    @property
    def name(self):
        return type(self).__name__.lower()

    def bin(self, work, program):
        return str(work / self.name / "bin" / program)

    def install(self, work):
        folder = work / self.name
        if (folder / "installed").exists():
            return
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([self.bin(work, "pip"), "install", "-q", *self.packages], check=True, timeout=1800)
        (folder / "installed").write_text("\n".join(self.packages))

    def ready(self, port):
        return None


class LiteLLM(Peer):
    packages = ("litellm[proxy]",)

    def start(self, work, upstream, port):
        config = work / "litellm.yaml"
        config.write_text(json.dumps({"model_list": [{"model_name": "m", "litellm_params": {
            "model": "openai/m", "api_base": f"http://{upstream}/v1", "api_key": "none"}}]}))
        return [[self.bin(work, "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port),
                 "--num_workers", "1"], {"LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False",
                                         "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}]


class OptiLLM(Peer):
    packages = ("optillm",)
    body = plain("none-m")
    vote = plain("self_consistency-m")

    def start(self, work, upstream, port):
        return [[self.bin(work, "optillm"), "--port", str(port), "--base-url", f"http://{upstream}/v1",
                 "--host", "127.0.0.1", "--log", "error"], {"OPENAI_API_KEY": "none"}]


class Its_Hub(Peer):
    # The server is an extra of the package.
    packages = ("its_hub[iaas]",)

    def start(self, work, upstream, port):
        self.upstream = upstream
        return [[self.bin(work, "its-iaas"), "--host", "127.0.0.1", "--port", str(port)], {}]

    def ready(self, port):
        settings = {"provider": "openai", "endpoint": f"http://{self.upstream}/v1", "api_key": "none", "model": "m",
                    "alg": "self-consistency", "regex_patterns": ["Answer: (.*)"]}
        post(port, "/configure", settings)

    body = {**plain(), "budget": 1}
    vote = {**plain(), "budget": 5}


class TensorZero(Peer):
    """Its wheel may one day hold the gateway as a program; 2026.6.0 holds it as a library for Python only."""

    packages = ("tensorzero",)

    def install(self, work):
        super().install(work)
        folder = pathlib.Path(self.bin(work, ""))
        programs = sorted(path.name for path in folder.iterdir() if {"tensorzero", "gateway"} & set(path.name.split("-")))
        if not programs:
            version = subprocess.run([self.bin(work, "python"), "-c", "from importlib.metadata import version as v; "
                                      "print(v('tensorzero'))"], check=True, capture_output=True, text=True).stdout.strip()
            raise RuntimeError(f"the wheel {version} holds no program that listens (its gateway is a library there, and else "
                               "a container image)")
        self.program = programs[0]

    def start(self, work, upstream, port):
        config = work / "tensorzero.toml"
        config.write_text(f"""
[gateway]
bind_address = "127.0.0.1:{port}"
[models.m]
routing = ["stub"]
[models.m.providers.stub]
type = "openai"
model_name = "m"
api_base = "http://{upstream}/v1"
api_key_location = "none"
""")
        return [[self.bin(work, self.program), "--config-file", str(config)], {}]


PEERS = {"litellm": LiteLLM, "optillm": OptiLLM, "its_hub": Its_Hub, "tensorzero": TensorZero}


def post(port, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(),
                                     {"content-type": "application/json", "authorization": "Bearer none"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def resident_mb(process):
    """Resident memory of a process and of those it started, MB."""
    kilobytes, waiting = 0, [process.pid]
    while waiting:
        pid = waiting.pop()
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            waiting += map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except OSError:
            continue
        kilobytes += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return kilobytes / 1024


class Stub:
    def __init__(self, bench, delay_ms):
        self.process = subprocess.Popen([bench, "stub", "--delay-ms", str(delay_ms)], stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def stop(self):
        self.process.kill()
        self.process.wait()


def started(server, work, upstream):
    """The server, once it answers a request."""
    port = free_port()
    command, variables = server.start(work, upstream, port)
    log = open(work / "last-server.log", "w")
    process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **variables}, cwd=work)
    begun, problem = time.monotonic(), None
    while time.monotonic() - begun < 300:
        if process.poll() is not None:
            problem = f"it ended with {process.returncode}"
            break
        try:
            server.ready(port)
            post(port, "/v1/chat/completions", server.body)
            return process, port
        except Exception as error:  # Whatever it is, the server is not ready yet.
            problem = error
            time.sleep(0.3)
    stop(process)
    last = (work / "last-server.log").read_text().strip().splitlines()[-3:]
    raise RuntimeError(f"it does not answer: {problem}; {' / '.join(last)}")


def stop(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def load(bench, port, body, connections, seconds):
    command = [bench, "load", "--url", f"127.0.0.1:{port}", "--connections", str(connections),
               "--seconds", str(seconds), "--body", json.dumps(body)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--elenchus", type=pathlib.Path, default=ROOT / "target/release/elenchus")
    parser.add_argument("--bench", type=pathlib.Path, default=ROOT / "target/release/examples/gateway_bench")
    options = parser.parse_args()
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    bench = str(options.bench)
    servers = {"elenchus": Elenchus(options)}
    for name in filter(None, options.peers.split(",")):
        servers[name] = PEERS[name](options)
    for name in list(servers):
        try:
            servers[name].install(options.work)
        except Exception as error:
            print(json.dumps({"server": name, "left_out": str(error)}), flush=True)
            del servers[name]
    fast, slow = Stub(bench, 0), Stub(bench, 50)
    rows = []
    try:
        for turn in range(options.rounds):
            for what, stub in [("direct", fast), ("direct", slow)]:
                port = int(stub.address.rsplit(":", 1)[1])
                job = "plain, 1 connection" if stub is fast else "50 ms upstream, 1 connection"
                rows.append({"round": turn, "server": what, "job": job, **load(bench, port, plain(), 1, options.seconds)})
                print(json.dumps(rows[-1]), flush=True)
            for name, server in list(servers.items()):
                jobs = [("plain, 1 connection", fast, server.body, 1), ("plain, 32 connections", fast, server.body, 32)]
                if server.vote:
                    jobs.append(("vote of 5 on a 50 ms upstream", slow, server.vote, 1))
                for stub in (fast, slow):
                    own = [job for job in jobs if job[1] is stub]
                    if not own:
                        continue
                    try:
                        process, port = started(server, options.work, stub.address)
                    except RuntimeError as error:
                        print(json.dumps({"server": name, "left_out": str(error)}), flush=True)
                        servers.pop(name, None)
                        break
                    for job, _, body, connections in own:
                        found = load(bench, port, body, connections, options.seconds)
                        rows.append({"round": turn, "server": name, "job": job, **found, "memory_mb": resident_mb(process)})
                        print(json.dumps(rows[-1]), flush=True)
                    stop(process)
    finally:
        fast.stop()
        slow.stop()
    print("\n| job | server | p50 ms | p99 ms | requests/s | memory MB | errors |\n|---|---|---|---|---|---|---|")
    for job, server in dict.fromkeys((row["job"], row["server"]) for row in rows):
        own = [row for row in rows if (row["job"], row["server"]) == (job, server)]
        middle = lambda field: statistics.median(row.get(field, float("nan")) for row in own)
        print(f"| {job} | {server} | {middle('p50_ms'):.3f} | {middle('p99_ms'):.3f} | {middle('per_second'):.0f} | "
              f"{middle('memory_mb'):.0f} | {sum(row['errors'] for row in own)} |")


if __name__ == "__main__":
    main()
