"""PyTorch, transformers, llama.cpp and our engine on the same work, in turns on the same machine.

    python benches/peers/run.py                                 # everything: 5 rounds, about 20 minutes
    python benches/peers/run.py --only train --rounds 3         # training only
    python benches/peers/run.py --only decode-M-1,llama.cpp     # one workload against one stack
    python benches/peers/run.py --out results                   # also results/peers.json and results/peers.md

Each stack runs as a process of its own, one at a time, for every workload of every round; the order turns with the
rounds. Our engine is built by cargo (bench `peers`). Prints Markdown; progress goes to stderr. See README.md.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report as reports
import workloads as table
from workloads import COMPILED, LLAMA, OURS, SHAPES, STACKS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# A stack that takes longer than this beyond its measuring time hangs.
GRACE_SECONDS = 600
# Loading libraries and weights, warming up, and the repeat that is running when the time is over; roughly.
START_SECONDS = 6


def note(text):
    print(text, file=sys.stderr, flush=True)


def fail(problem, hint):
    sys.exit(f"error: {problem}\nhint: {hint}")


def build():
    """Builds our side and returns its executable."""
    command = ["cargo", "bench", "--no-run", "--message-format=json", "-p", "elenchus-native", "--bench", "peers"]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        fail("cargo is missing", STACKS[OURS][2])
    if done.returncode != 0:
        fail(f"`{' '.join(command)}` failed", "its messages stand above")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message.get("target", {}).get("name") == "peers":
            return message["executable"]
    fail("cargo named no executable", "run the command by hand: " + " ".join(command))


def busy_seconds():
    """CPU seconds that all processes of the machine have run, and seconds stolen by other machines; Linux only."""
    try:
        with open("/proc/stat", encoding="ascii") as lines:
            user, nice, system, _, _, interrupt, soft, stolen = map(int, lines.readline().split()[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + interrupt + soft + stolen) / os.sysconf("SC_CLK_TCK")


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_stack(stack, job, executable):
    """One process; its answer, or `{"error": …}`. Adds how many cores other processes used meanwhile."""
    program = STACKS[stack][0]
    command = [executable] if stack == OURS else [sys.executable, str(HERE / program)]
    environment = os.environ | {"OMP_NUM_THREADS": str(job["threads"]), "TOKENIZERS_PARALLELISM": "false"}
    busy, own, start = busy_seconds(), children_seconds(), time.monotonic()
    try:
        done = subprocess.run(
            command + [json.dumps(job)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=ROOT,
            timeout=job["seconds"] + GRACE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {job['seconds'] + GRACE_SECONDS:.0f} s"}
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"error": last[:300]}
    result = json.loads(done.stdout.strip().splitlines()[-1])
    if busy is not None:
        others = busy_seconds() - busy - (children_seconds() - own)
        result["others_cores"] = max(0.0, others / (time.monotonic() - start))
    return result


def job_for(workload, stack, given, folder):
    job = workload.job | {
        "weights": str(folder / workload.size),
        "threads": given.threads,
        "seconds": given.seconds,
    }
    if stack == LLAMA:
        job["gguf"] = str(folder / f"{workload.size}.gguf")
    if stack != OURS and job["kind"] == "train":
        job["compile"] = stack == COMPILED
    return job


def prepare(folder, executable, sizes, with_gguf):
    """Random weights, once for all stacks."""
    for size in sizes:
        job = {"kind": "weights", "folder": str(folder / size), "seed": 1, "shape": SHAPES[size]}
        subprocess.run([executable, json.dumps(job)], check=True, stdout=subprocess.DEVNULL)
        if with_gguf:
            command = [sys.executable, str(HERE / "gguf_of.py"), str(folder / size), str(folder / f"{size}.gguf")]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def choose(only, every):
    """The workloads and stacks that `--only` names; a prefix such as `decode` names all that begin with it."""
    names = [name for name in only.split(",") if name]
    chosen, stacks = [], []
    for name in names:
        matching = [w for w in every if w.name == name or w.name.startswith(name + "-")]
        if not matching and name not in STACKS:
            known = ", ".join([w.name for w in every] + list(STACKS))
            fail(f"--only names `{name}`", f"give any of {known}, or the beginning of one such as `train`")
        chosen += matching
        if name in STACKS:
            stacks.append(name)
    chosen = [w for w in every if w in chosen] if chosen else every
    if stacks:
        chosen = [w for w in chosen if any(stack in w.stacks for stack in stacks)]
    return chosen, stacks


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions(engine):
    found = {"Python": platform.python_version()}
    for package in ["torch", "transformers", "llama-cpp-python", "numpy"]:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if engine:
        found[OURS] = f"as built in {engine.name}"
        return found
    describe = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        found[OURS] = done.stdout.strip()
    return found


def run_round(workload, wanted, turn, given, folder, executable):
    """The answers of all stacks to one workload, one after the other."""
    stacks = [stack for stack in workload.stacks if stack in wanted]
    # Another first each round, so that no stack always follows the same one.
    first = turn % len(stacks)
    answers = {}
    for stack in stacks[first:] + stacks[:first]:
        answers[stack] = run_stack(stack, job_for(workload, stack, given, folder), executable)
        speed = answers[stack].get("tokens_per_second")
        told = f"{speed:10,.0f} tokens/s" if speed else f"failed: {answers[stack]['error']}"
        note(f"round {turn + 1}/{given.rounds} {workload.name:<12} {stack:<13} {told}")
    return answers


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds (5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="measuring time of a stack in a round (5)")
    parser.add_argument("--threads", type=int, default=2, help="threads of every stack (2)")
    parser.add_argument("--only", default="", help="workloads and stacks, separated by commas")
    parser.add_argument("--compile", action="store_true", help="train with torch.compile too (minutes to compile)")
    parser.add_argument("--engine", type=Path, help="our bench `peers`, built before (else cargo builds it)")
    parser.add_argument("--out", type=Path, help="folder for peers.json and peers.md")
    given = parser.parse_args()
    if given.rounds < 1 or given.threads < 1 or not given.seconds > 0:
        parser.error("--rounds, --threads and --seconds must be positive")
    if given.engine and not os.access(given.engine, os.X_OK):
        parser.error(f"--engine {given.engine} is no program")
    return given


def main():
    given = arguments()
    chosen, asked = choose(given.only, table.workloads())
    wanted = {stack for workload in chosen for stack in workload.stacks if not asked or stack in asked or stack == OURS}
    not_asked = [] if given.compile or COMPILED in asked or COMPILED not in wanted else [COMPILED]
    wanted -= set(not_asked)
    absent = {}
    for stack in [stack for stack in STACKS if stack in wanted]:
        missing = [module for module in STACKS[stack][1] if importlib.util.find_spec(module) is None]
        if missing:
            absent[stack] = f"no module {', '.join(missing)}; {STACKS[stack][2]}"
            note(f"{stack} is absent: {absent[stack]}")
    wanted -= absent.keys()
    processes = given.rounds * sum(len([s for s in workload.stacks if s in wanted]) for workload in chosen)
    note(f"{processes} runs of {given.seconds:g} s and a start each: about {processes * (given.seconds + START_SECONDS) / 60:.0f} min")
    executable = str(given.engine.resolve()) if given.engine else build()
    runs = {workload.name: [] for workload in chosen}
    with tempfile.TemporaryDirectory(prefix="elenchus-peers-") as place:
        folder = Path(place)
        prepare(folder, executable, {workload.size for workload in chosen}, LLAMA in wanted)
        try:
            for turn in range(given.rounds):
                for workload in chosen:
                    runs[workload.name].append(run_round(workload, wanted, turn, given, folder, executable))
        except KeyboardInterrupt:
            note("interrupted: reporting the rounds that were finished")
            chosen = [workload for workload in chosen if runs[workload.name]]
    result = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": versions(given.engine),
        "threads": given.threads,
        "rounds": max((len(rounds) for rounds in runs.values()), default=0),
        "seconds": given.seconds,
        "absent": absent,
        "not_asked": not_asked,
        "workloads": [reports.summarise(workload, runs[workload.name]) for workload in chosen],
    }
    text = reports.markdown(result)
    print(text, end="")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        for rounds in runs.values():
            for answers in rounds:
                for answer in answers.values():
                    # Only for the comparison; hundreds of numbers.
                    answer.pop("next_logprobs", None)
        result["runs"] = runs
        (given.out / "peers.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (given.out / "peers.md").write_text(text, encoding="utf-8")
    if any(entry["errors"] for workload in result["workloads"] for entry in workload["stacks"].values()):
        fail("some runs failed", "their messages stand in the tables")


if __name__ == "__main__":
    main()
