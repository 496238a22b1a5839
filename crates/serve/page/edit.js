// What can be said of a stage. Always: good, or rejected. In debug mode: what it should be, and the rest run again from
// there. Both stand in the page; the style shows what the mode has.

import { PLAIN, post } from "./api.js";
import { $, complain, make, newId, say, sendsOn } from "./dom.js";
import { rerun } from "./panel.js";
import { shownCalls } from "./stages.js";

const PARTS = {
  answer: "The whole text", step: "One step", sub_question: "A sub-question", evidence: "A piece of evidence", critique: "What the critic says",
};

// Which parts of a stage an edit can address; the first is the likeliest.
function partsOf(stage) {
  if (stage.kind === "generated") {
    const steps = (stage.steps ?? []).length > 1 ? ["step"] : [];
    const critic = /critic|judge|verif|review/i.test(stage.title ?? "");
    return [...(critic ? ["critique"] : []), "answer", ...steps, "sub_question", "evidence"];
  }
  if (stage.kind === "evaluated") return ["critique", "evidence"];
  if (stage.kind === "stage") return ["sub_question", "evidence"];
  return [];
}

export async function feedback(body, done) {
  try {
    await post("/v1/feedback", body);
    say(`${done}.`);
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

async function tell(stages, stage, said, done) {
  if (!stages.traceId) { say("Wait until the answer is stored."); return; }
  if (await feedback({ trace_id: stages.traceId, stage: stage.id, ...said }, done)) stages.note({ stage: stage.id, ...said });
}

const small = (text, onclick, more = {}) => make("button", { type: "button", class: "small", onclick, ...more }, text);

export function fillStage(stages, stage, inside) {
  const parts = partsOf(stage);
  const calls = shownCalls(stage);
  inside.replaceChildren();
  if (stage.model) inside.append(make("p", { class: "hint" }, `by ${stage.model}`));
  if (stage.text || (!calls && stage.kind !== "stage" && typeof stage.score !== "number")) {
    inside.append(make("pre", { tabindex: "0", class: parts.length > 0 ? "reading" : "" }, stage.text || "(no text)"));
  }
  if (calls) inside.append(make("p", { class: "hint" }, "calls"), make("pre", { tabindex: "0", "data-calls": "" }, calls));
  const editor = parts.length > 0 ? new Editor(stages, stage, parts) : null;
  const reject = () => {
    // A failure is nobody's text, and a group of stages has none.
    const part = editor ? editor.part() : stage.kind === "decided" ? { part: "answer" } : null;
    const edit = part && stage.kind !== "stage" ? { edit: part } : {};
    tell(stages, stage, { reaction: "down", ...edit }, "Stage rejected");
  };
  const judge = make("div", { class: "reactions" },
    small("Good", () => tell(stages, stage, { reaction: "up" }, "Stage marked good"), { "data-judge": "good" }),
    small("Reject", reject, { "data-judge": "reject" }));
  if (stage.kind === "failed" && stages.question !== null) {
    judge.append(small("Ask once more", () => rerun(stages, stage, {}), { "data-rerun": "failed" }));
  }
  inside.append(judge);
  if (editor) inside.append(editor.element);
  if (stage.kind === "decided") inside.append(choosing(stages, stage));
  if (stages.question !== null && ["generated", "failed"].includes(stage.kind)) inside.append(asking(stages, stage));
  inside.append(make("p", { class: "hint debugging", "data-fixed": "", hidden: "" }));
}

// What cannot be run again from here says why, on its buttons and below them.
export function showAgain(stages, stage, inside) {
  if (!inside.hasChildNodes()) return;
  const reason = stages.known ? stage.fixed ?? null : "the answer is not there yet";
  const why = reason && `Cannot be run again from here: ${reason}.`;
  for (const control of inside.querySelectorAll("[data-rerun]")) {
    control.disabled = reason !== null;
    if (reason !== null) control.title = why;
  }
  const note = inside.querySelector("[data-fixed]");
  note.hidden = reason === null;
  note.textContent = why ?? "";
  // Where nothing can run, storing is what is left to do; one of them stands out.
  inside.querySelector("[data-store]")?.classList.toggle("primary", reason !== null);
  inside.querySelector("[data-rerun=edited]")?.classList.toggle("primary", reason === null);
}

class Editor {
  constructor(stages, stage, parts) {
    this.stage = stage;
    this.steps = stage.steps ?? [];
    const ids = ["part", "step", "edit"].map(newId);
    this.select = make("select", { id: ids[0], "data-field": "part" }, ...parts.map((part) => make("option", { value: part }, PARTS[part])));
    this.step = make("select", { id: ids[1], "data-field": "step" },
      ...this.steps.map((step, at) => make("option", { value: String(at) }, `${at + 1}: ${step.slice(0, 60)}`)));
    this.text = make("textarea", { id: ids[2], rows: "4", "data-field": "edit" });
    this.stepField = make("div", { class: "field" }, make("label", { for: ids[1] }, "Step"), this.step);
    const again = (change) => () => rerun(stages, stage, change());
    const store = () => tell(stages, stage, { edit: { ...this.part(), text: this.text.value } }, "Edit stored");
    this.element = make("div", { class: "debugging editor" },
      make("div", { class: "pickers" }, make("div", { class: "field" }, make("label", { for: ids[0] }, "What you change"), this.select), this.stepField),
      make("label", { for: ids[2] }, "As it should be"), this.text,
      make("div", { class: "reactions" },
        make("button", { type: "button", class: "primary small", "data-rerun": "edited", onclick: again(() => this.change()) }, "Run again with this"),
        small("Store edit", store, { "data-store": "", title: "Keeps it as feedback on this stage; nothing runs." }),
        small("Reject and run again", again(() => ({ ...this.rerunPart() })), { "data-rerun": "rejected", title: "The model writes this stage anew." })));
    this.select.addEventListener("change", () => this.show());
    this.step.addEventListener("change", () => this.show());
    sendsOn(this.text, () => this.element.querySelector(".primary").click());
    this.show();
  }

  get at() {
    return Number(this.step.value);
  }

  show() {
    const isStep = this.select.value === "step";
    this.stepField.hidden = !isStep;
    // The name of a group of stages is often the question that it answers.
    const text = isStep ? this.steps[this.at] : this.stage.text || (this.stage.kind === "stage" ? this.stage.title ?? "" : "");
    this.text.value = text;
    this.text.rows = Math.min(Math.max(text.split("\n").length + 1, 3), 14);
  }

  // What an edit addresses.
  part() {
    return this.select.value === "step" ? { part: "step", step: this.at } : { part: this.select.value };
  }

  // A step is no beginning of its own: the text is run again whole, with that step in it.
  rerunPart() {
    return this.select.value === "step" ? {} : { part: this.select.value };
  }

  change() {
    if (this.select.value !== "step") return { text: this.text.value, ...this.rerunPart() };
    const { text } = this.stage;
    let from = 0;
    for (const step of this.steps.slice(0, this.at)) from = text.indexOf(step, from) + step.length;
    const begin = text.indexOf(this.steps[this.at], from);
    return { text: text.slice(0, begin) + this.text.value + text.slice(begin + this.steps[this.at].length) };
  }
}

// A last decision can take another of the responses before it.
function choosing(stages, stage) {
  const others = stages.all.filter((other) => other.kind === "generated" && other.id < stage.id && other.id !== stage.of && (other.text || shownCalls(other)));
  const field = newId("choose");
  const select = make("select", { id: field, "data-rerun": "choice" },
    ...others.map((other) => make("option", { value: String(other.id) }, `#${other.id} ${(other.answer ?? (other.text || shownCalls(other))).slice(0, 80)}`)));
  if (others.length === 0) select.append(make("option", {}, "nothing else was written"));
  return make("div", { class: "debugging" },
    make("label", { for: field }, "It should have taken"), select,
    make("div", { class: "reactions" },
      make("button", { type: "button", class: "primary small", "data-rerun": "chosen", onclick: () => rerun(stages, stage, { choose: Number(select.value) }) }, "Take this answer")));
}

// Without a recipe the same request can be made with another question. Asked with a recipe, nothing of its trace could stay.
function asking(stages, stage) {
  const field = newId("question");
  const text = make("textarea", { id: field, rows: "2", "data-field": "question" });
  text.value = stages.question;
  const send = () => {
    if (!text.value.trim() || text.value === stages.question) {
      say("Write the question as it should have been.");
      text.focus();
      return;
    }
    rerun(stages, stage, { question: text.value });
  };
  sendsOn(text, send);
  return make("div", { class: "debugging", "data-ask": "" },
    make("label", { for: field }, "As it should have been asked"), text,
    make("div", { class: "reactions" }, small("Ask this instead", send, { "data-rerun": "question" })));
}

// What was asked without a recipe, whole; null where it is no single text that could be another one.
export function askedPlainly({ recipe, request }) {
  if (![PLAIN, "completions"].includes(recipe)) return null;
  const users = Array.isArray(request?.messages) ? request.messages.filter((message) => message.role === "user") : [];
  const said = users.at(-1)?.content ?? request?.prompt;
  if (Array.isArray(said) && users.length > 0) return said.filter((part) => part.type === "text").map((part) => part.text).join("\n");
  return typeof said === "string" ? said : null;
}

export function showDebug(on) {
  $("debug").checked = on;
  document.body.classList.toggle("debug", on);
}
