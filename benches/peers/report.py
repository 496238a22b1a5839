"""Rounds of answers to medians, paired ratios, verdicts, and their Markdown."""

from statistics import median

from workloads import LIMITS, OURS


def spread(values):
    return {"median": median(values), "low": min(values), "high": max(values), "rounds": len(values)}


def agreement(ours, theirs):
    """How far another stack's numbers are from ours where both must agree; None where nothing is comparable."""
    found = {}
    if ours.get("next_logprobs") and theirs.get("next_logprobs"):
        pairs = list(zip(ours["next_logprobs"], theirs["next_logprobs"], strict=True))
        found["next_logprobs"] = max(abs(a - b) for a, b in pairs)
    if "mean_logprob" in ours and "mean_logprob" in theirs:
        found["mean_logprob"] = abs(ours["mean_logprob"] - theirs["mean_logprob"])
    if "losses" in ours and "losses" in theirs:
        found["losses"] = max(abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
    return found


# Beyond these the stacks do not compute the same thing, and a ratio means nothing. llama.cpp keeps keys and values in
# half precision; the mean log-probability is of other random draws.
AGREE = {"next_logprobs": 5e-3, "mean_logprob": 0.1, "losses": 2e-3}


# A run during which other processes used more cores than this decides nothing. The criterion does not look at speeds.
QUIET_CORES = 0.1


def quiet(answer):
    """Whether the machine belonged to this run alone, as far as the system tells."""
    others = answer.get("others_cores")
    return others is None or others <= QUIET_CORES


def verdict(values, least, most):
    """Whether the median of the quiet runs keeps within the bounds; None when no run was quiet."""
    if not values:
        return None
    return (least is None or median(values) >= least) and (most is None or median(values) <= most)


def summarise(workload, runs):
    """One workload's figures; `runs` is a list of rounds, each a dict from stack to answer or error.

    Medians and ranges are of all rounds; verdicts are of the rounds in which the machine was quiet.
    """
    result = {"name": workload.name, "title": workload.title, "stacks": {}, "ratios": {}, "limits": []}
    for stack in workload.stacks:
        answers = [run[stack] for run in runs if stack in run]
        good = [answer for answer in answers if "error" not in answer]
        entry = {"errors": [answer["error"] for answer in answers if "error" in answer]}
        if good:
            entry["tokens_per_second"] = spread([answer["tokens_per_second"] for answer in good])
            for key in ["gflops", "gemm_gflops", "gemm_share", "peak_memory_mb", "wasted_rows", "idle_places"]:
                values = [answer[key] for answer in good if answer.get(key) is not None]
                if values:
                    entry[key] = spread(values)
            if "fixed_batch_waste" in good[0]:
                entry["fixed_batch_waste"] = good[0]["fixed_batch_waste"]
            others = [answer["others_cores"] for answer in good if answer.get("others_cores") is not None]
            if others:
                entry["others_cores"] = spread(others)
        if answers:
            result["stacks"][stack] = entry
    for stack in workload.stacks:
        pairs = [
            (run[OURS], run[stack])
            for run in runs
            if stack != OURS and OURS in run and stack in run and "error" not in run[OURS] and "error" not in run[stack]
        ]
        if not pairs:
            continue
        ratio = spread([ours["tokens_per_second"] / theirs["tokens_per_second"] for ours, theirs in pairs])
        far = {}
        for ours, theirs in pairs:
            for key, value in agreement(ours, theirs).items():
                far[key] = max(far.get(key, 0.0), value)
        ratio["largest_differences"] = far
        ratio["same_computation"] = all(value <= AGREE[key] for key, value in far.items())
        if stack in workload.aims:
            undisturbed = [
                ours["tokens_per_second"] / theirs["tokens_per_second"]
                for ours, theirs in pairs
                if quiet(ours) and quiet(theirs)
            ]
            ratio["aim"], ratio["quiet_rounds"] = workload.aims[stack], len(undisturbed)
            ratio["met"] = verdict(undisturbed, ratio["aim"], None) if ratio["same_computation"] else False
        result["ratios"][stack] = ratio
    for name, key, least, most, text in LIMITS:
        measured = result["stacks"].get(OURS, {}).get(key)
        if name == workload.name and measured:
            answers = [run[OURS] for run in runs if "error" not in run[OURS]]
            # Memory and counts do not depend on who else computes.
            values = [answer[key] for answer in answers if key != "gemm_share" or quiet(answer)]
            limit = {"what": text, "field": key, "least": least, "most": most, "met": verdict(values, least, most)}
            result["limits"].append(limit | measured)
    return result


def told(met):
    return {True: "met", False: "not met", None: "undecided, the machine was busy"}[met]


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ranged(values, form=number):
    return f"{form(values['median'])} [{form(values['low'])} to {form(values['high'])}]"


def percent(value):
    return f"{100 * value:.1f} %"


def times(value):
    return f"{value:.2f}"


def markdown(report):
    machine = report["machine"]
    lines = [
        "# Our engine and its peers",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {report['threads']} threads for every stack; "
        f"{report['rounds']} round{'s' if report['rounds'] != 1 else ''}, {report['seconds']:g} s per stack and round, one process at a time. "
        "Median of the rounds [lowest to highest]; a ratio is our tokens per second divided by the other's in the same "
        "round.",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in report["versions"].items()) + ".",
    ]
    for stack, reason in report["absent"].items():
        lines += ["", f"**{stack} is absent**: {reason}"]
    if report["not_asked"]:
        lines += ["", f"Not asked for: {', '.join(report['not_asked'])}."]
    for workload in report["workloads"]:
        lines += ["", f"## {workload['name']}", "", workload["title"][0].upper() + workload["title"][1:] + ".", ""]
        lines += ["| stack | tokens/s | ours / theirs | aim | peak memory, MB |", "|---|---|---|---|---|"]
        for stack, entry in workload["stacks"].items():
            if "tokens_per_second" not in entry:
                lines.append(f"| {stack} | failed: {entry['errors'][0]} | | | |")
                continue
            ratio = workload["ratios"].get(stack)
            cells = ["", ""]
            if ratio:
                cells[0] = ranged(ratio, times)
                if not ratio["same_computation"]:
                    cells[0] += " (results differ)"
                if "aim" in ratio:
                    cells[1] = f"{ratio['aim']:.1f}: {told(ratio['met'])}"
            memory = entry.get("peak_memory_mb")
            failed = f" ({len(entry['errors'])} failed)" if entry["errors"] else ""
            lines.append(
                f"| {stack} | {ranged(entry['tokens_per_second'])}{failed} | {cells[0]} | {cells[1]} "
                f"| {number(memory['high']) if memory else '?'} |"
            )
        ours = workload["stacks"].get(OURS, {})
        notes = []
        if "gemm_share" in ours:
            notes.append(
                f"{ranged(ours['gflops'])} GFLOP/s (6 N per token) of a GEMM peak of {ranged(ours['gemm_gflops'])}, "
                "measured in turns with the training."
            )
        if "wasted_rows" in ours:
            notes.append(
                f"Rows computed without use {percent(ours['wasted_rows']['median'])}, idle places "
                f"{percent(ours['idle_places']['median'])}; fixed batches would waste {percent(ours['fixed_batch_waste'])}."
            )
        for limit in workload["limits"]:
            form = number if limit["field"] == "peak_memory_mb" else percent
            bound = f"at least {form(limit['least'])}" if limit["most"] is None else f"at most {form(limit['most'])}"
            notes.append(f"{limit['what'][0].upper() + limit['what'][1:]}: {ranged(limit, form)}, aim {bound}: {told(limit['met'])}.")
        apart = {
            stack: ", ".join(f"{key} {value:.1e}" for key, value in ratio["largest_differences"].items())
            for stack, ratio in workload["ratios"].items()
            if ratio["largest_differences"]
        }
        if apart:
            notes.append("Largest differences from ours: " + "; ".join(f"{s}: {text}" for s, text in apart.items()) + ".")
        busy = [e["others_cores"]["high"] for e in workload["stacks"].values() if "others_cores" in e]
        if busy and max(busy) > QUIET_CORES:
            notes.append(
                f"**Other processes used up to {max(busy):.1f} cores meanwhile.** Rounds with more than {QUIET_CORES:g} "
                "decide no aim; measure again on a quiet machine."
            )
        lines += [text for note in notes for text in ("", note)]
    return "\n".join(lines) + "\n"
