// The view in which one asks, and two recipes beside each other.

import { $, complain, say } from "./dom.js";
import { Panel, ask } from "./panel.js";
import { chosenRecipes, requestBody } from "./pickers.js";

let running = null;

export const stop = () => running?.abort();

const plainly = (text) => text.trim().replace(/\s+/g, " ");

// Whether two answers say the same: by what was extracted from them; an answer without a recipe has only its text.
function compared([first, second]) {
  const [one, other] = [first, second].map((panel) => panel.outcome?.value ?? null);
  const texts = [first, second].map((panel) => plainly(panel.answer.textContent));
  if (one !== null && other !== null) return one === other;
  if (texts[0] === texts[1]) return true;
  const value = one ?? other;
  if (value === null) return null;
  const last = texts[one === null ? 0 : 1].split(/(?<=[.!?:])\s|\n/).at(-1);
  return last.split(/[^\p{L}\p{N}.,/^*+-]+/u).map((word) => word.replace(/[.,]+$/, "")).includes(value) ? true : null;
}

function showVerdict(panels) {
  if (panels.length < 2 || panels.some((panel) => panel.outcome?.status !== "answered")) return;
  const same = compared(panels);
  const values = panels.map((panel) => panel.outcome.value).filter((value) => value !== null);
  const text = same === true ? `Both answer the same${values.length > 0 ? `: ${values[0]}` : ""}.`
    : same === false ? `They differ: ${values.join(" and ")}.`
      : "Two texts: read them to compare.";
  $("verdict").className = same === true ? "agree" : same === false ? "differ" : "";
  $("verdict").textContent = text;
}

function ended(panels, problem) {
  if (problem) return ["There is no answer.", true];
  const statuses = panels.map((panel) => panel.outcome?.status);
  const said = statuses.every((status) => status === "abstained") ? "The recipe gave no sure answer" : "Answered";
  const stored = panels.every((panel) => panel.stages.traceId);
  return [said === "Answered" && stored ? "Answered and stored." : stored ? `${said}; the trace is stored.` : `${said}; not stored.`, false];
}

export async function submit(event) {
  event.preventDefault();
  const names = chosenRecipes();
  if (names.length === 0) { say("Write the recipes that are to answer.", true); return; }
  stop();
  const mine = new AbortController();
  running = mine;
  say("Asking …");
  $("stop").hidden = false;
  $("verdict").textContent = "";
  $("verdict").className = "";
  const panels = names.map((name) => new Panel(`${name} · ${$("model").value}`, names.length > 1));
  $("panels").classList.toggle("single", panels.length === 1);
  $("panels").replaceChildren(...panels.map((panel) => panel.element));
  const outcomes = await Promise.allSettled(panels.map((panel, index) => ask(panel, requestBody(names[index]), mine.signal)));
  let problem = null;
  outcomes.forEach((outcome, index) => {
    if (outcome.status === "fulfilled") return;
    const { reason } = outcome;
    panels[index].fail(reason.name === "AbortError" ? new Error("Stopped.") : reason);
    problem = reason;
  });
  if (running !== mine) return;
  running = null;
  $("stop").hidden = true;
  showVerdict(panels);
  if (problem?.status === 401) complain(problem);
  else say(...ended(panels, problem));
}
