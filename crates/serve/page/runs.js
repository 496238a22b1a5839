// Runs of `improve` and other commands: a list, one with what it measured, and its report.

import { get } from "./api.js";
import { $, complain, count, interval, make, number, percentFine, say } from "./dom.js";

const RUN_EVERY_MS = 2000;
let runTimer;

export async function runs() {
  try {
    const list = await get("/v1/runs");
    $("runs-link").hidden = !list.configured;
    $("runs").tBodies[0].replaceChildren(...list.data.map((run) => make("tr", {},
      make("td", {}, make("a", { href: `#run=${encodeURIComponent(run.name)}` }, run.name)),
      make("td", { class: "text" }, [run.command, run.recipe].filter(Boolean).join(" · ") || "—"),
      make("td", { class: `text state-${run.state}` }, run.state),
      make("td", {}, number(run.units)),
      make("td", {}, new Date(run.updated_ms).toLocaleString()))));
    if (list.data.length === 0) {
      const text = list.configured ? "No runs yet." : "No folder of runs was named: elenchus serve --runs DIR";
      $("runs").tBodies[0].append(make("tr", {}, make("td", { colspan: "5", class: "hint" }, text)));
    }
    say("");
  } catch (error) {
    complain(error);
  }
}

const isInterval = (value) => typeof value?.value === "number" && typeof value.low === "number" && typeof value.high === "number";
const short = (value) => (Number.isInteger(value) ? number(value) : value.toPrecision(4));

// A measured value: a number, or one with its interval; in percent and with a bar where it is a share.
function measured(value) {
  if (typeof value === "number") return make("td", {}, short(value));
  if (!isInterval(value)) return make("td", {}, "—");
  const { low, high } = value;
  const isShare = low >= 0 && high <= 1;
  const shown = isShare ? percentFine : short;
  const range = make("div", { class: "hint" }, `${isShare ? shown(low).slice(0, -2) : shown(low)} to ${shown(high)}`);
  return make("td", {}, shown(value.value), range, isShare ? interval(low, high, value.value) : null);
}

// Many columns and few rows stand the other way round: down a page there is room.
const MANY_COLUMNS = 9;

function showMetrics(columns, rows) {
  const named = (column) => column.replaceAll("_", " ");
  const turned = columns.length > MANY_COLUMNS && columns.length > rows.length;
  const [head, ...others] = columns;
  const heads = turned ? [named(head), ...rows.map((row) => short(row[head] ?? 0))] : columns.map(named);
  const lines = turned
    ? others.map((column) => [make("th", { scope: "row" }, named(column)), ...rows.map((row) => measured(row[column]))])
    : rows.map((row) => columns.map((column) => measured(row[column])));
  $("run-metrics").classList.toggle("turned", turned);
  $("run-metrics").tHead.replaceChildren(make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text))));
  $("run-metrics").tBodies[0].replaceChildren(...lines.map((cells) => make("tr", {}, ...cells)));
}

export async function openRun(name) {
  clearTimeout(runTimer);
  if ($("run-title").textContent !== `Run ${name}`) {
    $("run-title").textContent = `Run ${name}`;
    $("run-facts").textContent = "";
    for (const part of [$("run-metrics").tHead, $("run-metrics").tBodies[0]]) part.replaceChildren();
    $("run-config").querySelector("pre").textContent = "";
    $("run-report").hidden = true;
  }
  let run;
  try {
    run = await get(`/v1/runs/${encodeURIComponent(name)}`);
  } catch (error) {
    complain(error);
    return;
  }
  // Another one may have been opened meanwhile.
  if ($("run-title").textContent !== `Run ${run.name}`) return;
  const facts = [[run.command, run.recipe].filter(Boolean).join(" · "), run.state, `${count(run.units, "unit")} done`];
  if (run.latest) facts.push(`last: ${run.latest}`);
  facts.push(`written ${new Date(run.updated_ms).toLocaleTimeString()}`);
  $("run-facts").textContent = facts.filter(Boolean).join(" · ");
  const columns = [...new Set(run.metrics.flatMap((row) => Object.keys(row)))]
    .filter((column) => run.metrics.some((row) => typeof row[column] === "number" || isInterval(row[column])));
  showMetrics(columns, run.metrics);
  $("run-config").querySelector("pre").textContent = JSON.stringify(run.config, null, 2);
  $("run-report").hidden = !run.report;
  $("run-report").href = `#report=${encodeURIComponent(run.name)}`;
  say("");
  // One that runs is looked at again for as long as its page is open.
  if (run.state === "running") {
    runTimer = setTimeout(() => { if (!$("view-run").hidden && $("run-title").textContent === `Run ${run.name}`) openRun(name); }, RUN_EVERY_MS);
  }
}

// The report of a run in a frame where nothing of it runs. It has the page for itself, so that there is one thing to
// scroll; another run gets another frame, so that none is ever seen under the name of another.
export async function openReport(name) {
  $("report-back").href = `#run=${encodeURIComponent(name)}`;
  $("report-back").textContent = `Run ${name}`;
  $("report").replaceChildren();
  try {
    const { report } = await get(`/v1/runs/${encodeURIComponent(name)}`);
    if (report) $("report").replaceChildren(make("iframe", { class: "report", title: `Report of the run ${name}`, sandbox: "", src: report }));
    say(report ? "" : "This run has no report yet.");
  } catch (error) {
    complain(error);
  }
}
