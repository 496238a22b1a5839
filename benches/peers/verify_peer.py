"""HF Math-Verify and elenchus on the same pairs: pairs per second of each, the ratio, and where they differ.

Needs `pip install math-verify==0.9.0`.

    python benches/peers/verify_peer.py pairs.jsonl --elenchus "target/release/elenchus verify {file} --json"
    python benches/peers/verify_peer.py pairs.jsonl --bench "cargo bench -q -p elenchus-task --bench verify -- {file}"

A row that names extractors is given to Math-Verify as it is; a bare answer is put between dollar signs, as that
library wants LaTeX. The first pair is run once before the clock starts, so that imports and first-use tables do not
count against it.
"""

import argparse
import json
import logging
import shlex
import subprocess
import sys
import time

from math_verify import (
    ExprExtractionConfig,
    LatexExtractionConfig,
    StringExtractionConfig,
    parse,
    verify,
)


def judge(row):
    """The verdict of Math-Verify on one row: True, False, or None when it failed."""
    gold, pred = str(row["gold"]), str(row["pred"])
    options = {}
    if row.get("extract"):
        priority = row.get("boxed_match_priority")
        made = {
            "latex": lambda: LatexExtractionConfig(boxed_match_priority=50 if priority is None else priority),
            "expr": ExprExtractionConfig,
            "string": StringExtractionConfig,
        }
        options["extraction_config"] = tuple(made[name]() for name in row["extract"])
    else:
        gold, pred = f"${gold}$", f"${pred}$"
    try:
        return bool(
            verify(
                parse(gold, **options),
                parse(pred, **options),
                float_rounding=6 if row.get("precision") is None else row["precision"],
                strict=True if row.get("strict") is None else row["strict"],
                allow_set_relation_comp=bool(row.get("allow_set_relation_comp")),
            )
        )
    except Exception:
        return None


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("file")
    arguments.add_argument("--elenchus", help="command that prints the JSON of `elenchus verify`")
    arguments.add_argument("--bench", help="command that prints the JSON line of the bench")
    given = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    with open(given.file, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    judge(rows[0])
    start = time.perf_counter()
    verdicts = [judge(row) for row in rows]
    seconds = time.perf_counter() - start
    report = {
        "pairs": len(rows),
        "math_verify": {"seconds": round(seconds, 3), "pairs_per_second": round(len(rows) / seconds, 1)},
    }
    if given.elenchus:
        printed = subprocess.run(
            shlex.split(given.elenchus.format(file=given.file)), check=True, capture_output=True, text=True
        ).stdout
        ours = json.loads(printed)
        rate = ours["pairs"] / ours["seconds"]
        by_id = {str(r["id"]): r["equivalent"] for r in ours["results"]}
        differing = [
            {"id": row["id"], "math_verify": verdict, "elenchus": by_id.get(str(row["id"]))}
            for row, verdict in zip(rows, verdicts)
            if verdict != by_id.get(str(row["id"]))
        ]
        report["elenchus"] = {"seconds": ours["seconds"], "pairs_per_second": round(rate, 1)}
        report["ratio"] = round(rate * seconds / len(rows), 1)
        report["agreement"] = round(1 - len(differing) / len(rows), 4)
        report["differing"] = differing
    if given.bench:
        printed = subprocess.run(
            shlex.split(given.bench.format(file=given.file)), check=True, capture_output=True, text=True
        ).stdout
        ours = json.loads(printed.strip().splitlines()[-1])
        report["bench"] = ours
        report["ratio_first_pass"] = round(ours["pairs_per_second"] * seconds / len(rows), 1)
    json.dump(report, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
