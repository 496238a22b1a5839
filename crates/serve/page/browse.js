// The stored traces: a list with filters, and one of them whole.

import { get, getTrace } from "./api.js";
import { $, complain, count, make, parted, percent, say, time, tokensOf } from "./dom.js";
import { Panel, SIGNS } from "./panel.js";

const FILTERS = ["text", "recipe", "model", "key", "status", "reaction"];
const WHEN = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "short" });
let next = null;

// The list goes back from here: behind the last trace that is shown, or from the end of a day.
function before(more) {
  if (more) return next;
  const day = $("filter-until").value;
  if (!day) return null;
  const end = new Date(`${day}T00:00`);
  end.setDate(end.getDate() + 1);
  return `${end.getTime()}.`;
}

function row(trace) {
  const { status } = trace;
  const sure = typeof trace.confidence === "number" ? `confidence ${percent(trace.confidence)} (raw)` : "";
  const facts = [WHEN.format(trace.created_ms), trace.recipe, trace.model, trace.key, time(trace.elapsed_ms), count(tokensOf(trace.usage), "token"), sure];
  const answer = status === "failed" ? parted(trace.answer)[0] : trace.answer;
  const mark = status === "answered" ? null : make("span", { class: `badge ${status}` }, status);
  const reaction = trace.reaction ? make("span", { class: `badge ${trace.reaction}` }, SIGNS[trace.reaction]) : null;
  return make("li", {}, make("a", { href: `#trace=${trace.id}`, class: status },
    make("div", { class: "line" }, trace.question || "(no question)"),
    make("div", { class: "line said" }, mark, reaction, answer || (status === "answered" ? "(an empty answer)" : "")),
    make("div", { class: "quiet" }, facts.filter(Boolean).join(" · "))));
}

export async function browse(more) {
  const query = new URLSearchParams();
  for (const name of FILTERS) {
    const value = $(`filter-${name}`).value.trim();
    if (value) query.set(name, value);
  }
  const from = before(more);
  if (from) query.set("before", from);
  try {
    const list = await get(`/v1/traces?${query}`);
    next = list.next ?? null;
    const rows = list.data.map(row);
    if (more) $("traces").append(...rows); else $("traces").replaceChildren(...rows);
    if (!more && rows.length === 0) {
      $("traces").append(make("li", { class: "hint" }, [...query].length > 0 ? "Nothing fits these filters." : "Nothing yet."));
    }
    $("more").hidden = !next;
    say("");
  } catch (error) {
    complain(error);
  }
}

// The recipes that stored traces have, compositions too.
export async function knowRecipes() {
  try {
    const { data } = await get("/v1/totals");
    $("known-recipes").replaceChildren(...data.map((total) => make("option", { value: total.recipe })));
  } catch {
    // A name can be written without being proposed.
  }
}

export async function openTrace(id) {
  $("trace").replaceChildren();
  try {
    const trace = await getTrace(id);
    const panel = new Panel(`${trace.recipe} · ${trace.model}`);
    panel.asks(trace.question);
    $("trace").classList.add("single");
    $("trace").replaceChildren(panel.element);
    await panel.show(trace);
    say("");
  } catch (error) {
    complain(error);
  }
}
