// The page: its views and what leads to them.

import { get } from "./api.js";
import { stop, submit } from "./ask.js";
import { browse, knowRecipes, openTrace } from "./browse.js";
import { $, complain, remember, remembered, sendsOn } from "./dom.js";
import { showDebug } from "./edit.js";
import { estimateSoon, loadPickers, pickersChanged } from "./pickers.js";
import { openReport, openRun, runs } from "./runs.js";
import { download, showTotals, totals } from "./totals.js";

const VIEWS = ["ask", "browse", "trace", "totals", "runs", "run", "report"];
const WITHIN = { trace: "browse", run: "runs", report: "runs" };

// What stands behind the hash: a view and what it shows. A hash that cannot be read shows the first view.
function place() {
  try {
    const [name, value] = decodeURIComponent(location.hash.slice(1) || "ask").split("=");
    return [VIEWS.includes(name) ? name : "ask", value];
  } catch {
    return ["ask", undefined];
  }
}

function show() {
  const [view, value] = place();
  for (const other of VIEWS) $(`view-${other}`).hidden = other !== view;
  document.body.dataset.view = view;
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.dataset.view === view || link.dataset.view === WITHIN[view];
    if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (view === "browse") { browse(false); knowRecipes(); }
  if (view === "totals") totals();
  if (view === "trace" && value) openTrace(value);
  if (view === "runs") runs();
  if (view === "run" && value) openRun(value);
  if (view === "report" && value) openReport(value);
}

function start() {
  loadPickers().catch(complain);
  // Whether there are runs to see; a key without the right to read has none.
  get("/v1/runs").then((list) => { $("runs-link").hidden = !list.configured; }, () => {});
  show();
}

window.addEventListener("hashchange", () => { if (location.hash !== "#main") show(); });
showDebug(remembered("debug") === "on");
$("debug").addEventListener("change", () => {
  remember("debug", $("debug").checked ? "on" : "off");
  showDebug($("debug").checked);
});
$("ask-form").addEventListener("submit", submit);
$("stop").addEventListener("click", stop);
$("question").addEventListener("input", estimateSoon);
sendsOn($("question"), () => $("ask-form").requestSubmit());
for (const id of ["model", "recipe", "beside", "samples"]) $(id).addEventListener("change", pickersChanged);
for (const id of ["recipe-text", "beside-text"]) $(id).addEventListener("input", pickersChanged);
$("filter-form").addEventListener("submit", (event) => { event.preventDefault(); browse(false); });
$("more").addEventListener("click", () => browse(true));
$("totals-all").addEventListener("change", showTotals);
for (const link of document.querySelectorAll("[data-export]")) link.addEventListener("click", download);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value.trim());
  $("key").value = "";
  $("key-form").hidden = true;
  start();
});
start();
