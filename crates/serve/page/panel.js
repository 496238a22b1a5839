// An answer with its stages, and what can be said of it.

import { ApiError, CHAT, getTrace, lines, post } from "./api.js";
import { complain, count, make, money, newId, parted, percent, say, sendsOn, sure, time, tokensOf } from "./dom.js";
import { askedPlainly, feedback } from "./edit.js";
import { Stages } from "./stages.js";

const NARROW = matchMedia("(max-width: 40rem)");
const REACTIONS = [["love", "♥ Love"], ["up", "▲ Up"], ["down", "▼ Down"]];
export const SIGNS = { love: "♥ love", up: "▲ up", down: "▼ down" };

export function shownFeedback(entry) {
  const parts = [];
  if (entry.reaction) parts.push(SIGNS[entry.reaction]);
  if (entry.metric) parts.push(`${entry.metric} ${entry.score}`);
  if (entry.comment) parts.push(entry.comment);
  if (entry.correction) parts.push(`better: ${entry.correction}`);
  if (entry.edit) {
    const { part, step, text } = entry.edit;
    const what = part.replace("_", "-") + (step === undefined ? "" : ` ${step + 1}`);
    parts.push(text === undefined ? `${what} rejected` : `${what} should be: ${text}`);
  }
  const where = entry.stage === undefined ? "" : `stage #${entry.stage}: `;
  return where + parts.join(" · ") + (entry.key ? ` (${entry.key})` : "");
}

export class Panel {
  // One of several that are compared shows its answer first where there is little room.
  constructor(title, beside = false) {
    this.stages = new Stages();
    this.value = make("p", { class: "value", hidden: "" });
    this.answer = make("div", { class: "answer", "aria-live": "polite" });
    this.hints = make("div");
    this.facts = make("ul", { class: "facts" });
    this.react = make("div", { class: "react", hidden: "" });
    this.said = make("div", { class: "said" });
    this.progress = make("p", { class: "progress", hidden: "" });
    this.answerSide = make("div", { class: "answer-side" },
      make("div", {}, this.value, this.answer, this.hints, this.progress), make("div", {}, this.facts, this.react, this.said));
    const everything = make("button", { type: "button", class: "small", "data-open-all": "" }, "Open all");
    everything.addEventListener("click", () => {
      const open = everything.textContent === "Open all";
      this.stages.openAll(open);
      everything.textContent = open ? "Close all" : "Open all";
    });
    this.came = make("details", { class: "came" }, make("summary", {}, make("h4", {}, "How it came about")),
      make("div", { class: "row" }, everything,
        make("span", { class: "hint order" }, "Numbers follow time. What judges a text, or was written from it, stands below it.")),
      this.stages.list);
    this.came.open = !(beside && NARROW.matches);
    this.title = make("h3", { tabindex: "-1" }, title);
    this.element = make("article", { class: "panel" }, this.title, this.answerSide, this.came);
  }

  // While nothing is final, how long it takes and what came so far.
  begin() {
    const begun = performance.now();
    const show = () => {
      const { responses, tokens } = this.stages;
      const came = responses > 0 ? ` · ${count(responses, "response")} and ${count(tokens, "token")} so far` : "";
      this.progress.textContent = `${Math.floor((performance.now() - begun) / 1000)} s${came}`;
    };
    this.progress.hidden = false;
    show();
    this.timer = setInterval(show, 500);
  }

  end() {
    clearInterval(this.timer);
    this.progress.hidden = true;
  }

  // What is answered here, where that is not plain to see.
  asks(question) {
    this.answerSide.prepend(make("p", { class: "asked" }, question || "(no question)"));
  }

  fact(name, value) {
    this.facts.append(make("li", {}, name ? `${name} ` : "", value instanceof Node ? value : make("b", {}, value)));
  }

  hint(hints) {
    this.hints.replaceChildren(...hints.map((hint) => make("p", { class: "hint" }, hint)));
  }

  // What came of an answer stays above the reason why no more came.
  fail(error) {
    this.end();
    if (this.answer.textContent) {
      this.answer.after(make("p", { class: "answer bad" }, error.message));
    } else {
      this.answer.classList.add("bad");
      this.answer.textContent = error.message;
    }
    this.hint(error.hints ?? []);
    // What was refused before it began did not come about.
    this.came.hidden = this.stages.all.length === 0;
  }

  // What is said of the answer, from its report or from its trace.
  describe({ status, given, parent, usage, elapsed_ms: took }) {
    this.facts.replaceChildren();
    this.outcome = { status, value: given?.answer ?? this.stages.answer };
    const text = this.answer.textContent;
    if (status === "abstained") {
      this.answer.classList.add("unsure");
      if (given?.abstained) this.hint([`Why: ${given.abstained}`]);
    }
    if (!text && status === "answered" && this.stages.calls) this.answer.append(make("pre", { "data-calls": "" }, this.stages.calls));
    if (status === "failed") this.answer.classList.add("bad");
    const value = status === "answered" ? this.outcome.value : null;
    const unsure = status === "abstained";
    this.value.hidden = !unsure && (!value || value === text.trim());
    this.value.classList.toggle("unsure", unsure);
    this.value.replaceChildren(...(unsure ? ["No sure answer"] : [make("span", { class: "hint" }, "Answer "), make("b", {}, value ?? "")]));
    if (parent) this.fact("again from", make("a", { href: `#trace=${parent.trace_id}` }, `stage #${parent.stage}`));
    if (status && status !== "answered") this.fact("ended", status);
    if (given?.confidence) this.fact("confidence", sure(given.confidence));
    if (typeof given?.agreement === "number") this.fact("agreement", percent(given.agreement));
    if (took) this.fact("took", time(took));
    this.fact("cost", `${count(usage.calls, "call")}, ${count(tokensOf(usage), "token")}`);
    if (usage.money) this.fact("price", money(usage.money));
  }

  report(report) {
    this.stages.know(report.stages);
    const status = report.abstained ? "abstained" : "answered";
    this.describe({ status, given: report, parent: report.parent, usage: report.budget.spent });
    if (report.trace_id) this.ready(report.trace_id, status);
    else this.notStored();
  }

  notStored() {
    this.fact("not stored:", "nothing can be said of this answer");
  }

  // The stored trace: it has the stages whole, and what was said of them.
  async show(trace) {
    this.stages.question = askedPlainly(trace);
    this.stages.know(trace.stages);
    if (!this.answer.textContent) {
      const [text, ...hints] = trace.status === "failed" ? parted(trace.answer) : [trace.answer];
      this.answer.textContent = text;
      this.hint(hints);
    }
    // Of a trace that does not say what was told of it, the confidence is what the recipe said.
    const told = typeof trace.confidence === "number" ? { confidence: { value: trace.confidence, kind: "raw" } } : {};
    this.describe({ ...trace, given: trace.given ?? told });
    if (!this.answer.textContent && trace.status !== "abstained") {
      this.answer.textContent = trace.status === "answered" ? "(an empty answer)" : `(${trace.status})`;
    }
    this.came.hidden = trace.stages.length === 0;
    this.ready(trace.id, trace.status, true, trace.own_reaction);
    this.said.replaceChildren();
    for (const entry of trace.feedback) {
      this.addSaid(shownFeedback(entry));
      if (entry.stage !== undefined) this.stages.note(entry);
    }
    if (trace.parent) await this.compareWith(trace.parent);
  }

  // What a person changed, and what differs behind it.
  async compareWith(parent) {
    let before;
    try {
      before = await getTrace(parent.trace_id);
    } catch {
      // It may be another's, or gone; then there is nothing to compare with.
      return;
    }
    this.stages.mark(before.stages, parent.stage);
    const was = new Stages();
    was.know(before.stages);
    const old = before.given?.answer ?? was.answer ?? before.answer;
    const now = this.outcome.value ?? this.answer.textContent;
    this.fact("before", old === now ? "the same answer" : old || `(${before.status})`);
  }

  async load(traceId) {
    let trace;
    try {
      trace = await getTrace(traceId);
    } catch (error) {
      // The head of a stream names its trace before that is stored; and a key may ask and say what it thinks without the
      // right to read.
      if (this.stages.traceId === null) {
        if (error.status === 404) this.notStored();
        else this.ready(traceId, "answered", error.status !== 403);
      }
      return;
    }
    await this.show(trace);
  }

  addSaid(text) {
    if (!this.said.firstChild) this.said.append(make("h4", {}, "What was said"), make("ul"));
    this.said.lastChild.append(make("li", {}, text));
  }

  // Once the trace is stored, it can be talked about.
  ready(traceId, status, readable = true, reaction = null) {
    this.stages.traceId = traceId;
    this.element.dataset.trace = traceId;
    const send = async (said, done, shown) => {
      if (!(await feedback({ trace_id: traceId, ...said }, done))) return false;
      this.addSaid(shown);
      return true;
    };
    const buttons = REACTIONS.map(([name, text]) => {
      const button = make("button", { type: "button", "aria-pressed": String(name === reaction), "data-reaction": name }, text);
      button.addEventListener("click", async () => {
        if (!(await send({ reaction: name }, `Stored: ${name}`, SIGNS[name]))) return;
        for (const other of this.react.querySelectorAll("[data-reaction]")) {
          other.setAttribute("aria-pressed", String(other === button));
        }
      });
      return button;
    });
    const better = this.better(send);
    const here = `#trace=${traceId}`;
    const field = newId("comment");
    const comment = make("input", { id: field, "data-field": "comment", placeholder: "Say something about it", autocomplete: "off" });
    const line = make("form", { class: "comment" }, make("label", { for: field, class: "visually-hidden" }, "Comment"), comment,
      make("button", { "data-send": "comment" }, "Send"));
    line.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (!comment.value.trim()) { comment.focus(); return; }
      if (await send({ comment: comment.value }, "Comment stored", comment.value)) comment.value = "";
    });
    // What is no answer cannot be loved; it can be commented, and the answer given.
    const liked = status === "answered" || status === undefined ? buttons : [];
    this.react.replaceChildren(
      make("div", { class: "reactions", role: "group", "aria-label": "Your reaction" }, ...liked, better.toggle,
        readable && location.hash !== here ? make("a", { href: here }, "Trace") : null),
      better.box, line);
    this.react.hidden = false;
  }

  // A better answer begins with the one that is there.
  better(send) {
    const field = newId("correction");
    const text = make("textarea", { id: field, rows: "4", "data-field": "correction" });
    const box = make("div", { class: "correction", hidden: "" });
    const toggle = make("button", { type: "button", "aria-expanded": "false", "data-better": "" }, "✎ Better answer");
    const open = (on) => { box.hidden = !on; toggle.setAttribute("aria-expanded", String(on)); };
    const store = async () => {
      if (!text.value.trim()) { text.focus(); return; }
      if (await send({ correction: text.value }, "Better answer stored", `better: ${text.value}`)) { open(false); toggle.focus(); }
    };
    toggle.addEventListener("click", () => {
      open(box.hidden);
      if (box.hidden) return;
      const is = this.outcome?.status === "answered" || this.outcome === undefined;
      if (!text.value && is) text.value = this.answer.textContent;
      text.focus();
    });
    sendsOn(text, store);
    box.append(make("label", { for: field }, "The answer as it should have been"), text,
      make("div", { class: "reactions" }, make("button", { type: "button", class: "primary small", "data-send": "correction", onclick: store }, "Store it")));
    return { toggle, box };
  }
}

// Sends a request and fills the panel with what comes of it.
export async function ask(panel, body, signal, path = CHAT) {
  const options = path === CHAT ? { stream_options: { include_usage: true } } : {};
  panel.begin();
  const response = await post(path, { ...body, ...options, stream: true }, signal);
  let traceId = response.headers.get("x-elenchus-trace-id");
  let finished = false;
  let report = null;
  for await (const line of lines(response)) {
    if (line.startsWith(": elenchus ")) {
      const said = JSON.parse(line.slice(11));
      if (said.type === "begin") traceId = said.trace_id;
      if (said.type === "stage") panel.stages.add(said.stage, true);
      continue;
    }
    if (!line.startsWith("data:")) continue;
    const data = line.slice(5).trim();
    if (data === "[DONE]") { finished = true; break; }
    const piece = JSON.parse(data);
    // Its trace says more than the refusal: why, and what was tried.
    if (piece.error?.code === "no_answer" && traceId) { finished = true; break; }
    if (piece.error) throw new ApiError(piece.error.message);
    // A request of the older kind (`prompt`) is answered with texts.
    panel.answer.append(piece.choices?.[0]?.delta?.content ?? piece.choices?.[0]?.text ?? "");
    if (piece.elenchus) report = piece.elenchus;
  }
  panel.end();
  if (report) {
    panel.report(report);
    traceId = report.trace_id;
  }
  if (traceId && finished) await panel.load(traceId);
}

// The recipe again, with what the person wants otherwise: the stage's text, its choice, or the question; or the stage
// written anew. What was said by that is stored.
export async function rerun(stages, stage, change) {
  if (!stages.traceId) { say("Wait until the answer is stored."); return; }
  const panels = stages.list.closest(".panels");
  const panel = new Panel(`Again from stage #${stage.id}`, true);
  if (stages.question !== null) panel.asks(change.question ?? stages.question);
  panels.classList.remove("single");
  panel.element.classList.add("again");
  panels.append(panel.element);
  // On a phone it stands far below, and a screen reader would not come upon it.
  panel.title.focus({ preventScroll: true });
  if (panel.title.getBoundingClientRect().top > innerHeight / 2) panel.element.scrollIntoView();
  say("Running again …");
  try {
    await ask(panel, { stage: stage.id, ...change }, new AbortController().signal, `/v1/traces/${encodeURIComponent(stages.traceId)}/rerun`);
    // What failed was no answer that could be rejected.
    const edited = stage.kind !== "failed" && change.question === undefined;
    if (edited) stages.note({ stage: stage.id, edit: { text: change.choose === undefined ? change.text : "" } });
    const kept = change.question !== undefined ? "the other question is kept as a comment" : "the edit is stored";
    say(stage.kind === "failed" && change.question === undefined ? "Answered." : `Answered again; ${kept}.`);
  } catch (error) {
    panel.fail(error);
    complain(error);
  }
}
