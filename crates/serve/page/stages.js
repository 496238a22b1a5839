// The stages of an answer as a tree: each a line that opens.

import { make, number, time, tokensOf } from "./dom.js";
import { fillStage, showAgain } from "./edit.js";

const KINDS = { generated: "wrote", evaluated: "judged", decided: "decided", failed: "failed", stage: "stage" };

export const shownCalls = (stage) => (stage.tool_calls ?? []).map((call) => `${call.function.name}(${call.function.arguments})`).join("\n");

// What a stage says, wherever it stands: two runs are compared by it.
const content = (stage) => JSON.stringify([stage.kind, stage.title, stage.text, stage.score ?? null, shownCalls(stage)]);

export class Stages {
  constructor() {
    this.list = make("ol", { class: "stages" });
    // By number: the stage, its item of the list, what stands inside it.
    this.lines = new Map();
    this.bars = [];
    this.end = 1;
    this.traceId = null;
    // Of an answer without a recipe: what was asked. It can be asked otherwise.
    this.question = null;
    // Whether all that is to be known of the stages is: they are whole, and say from where the recipe can run again.
    this.known = false;
    this.chosen = null;
  }

  get all() {
    return [...this.lines.values()].map((line) => line.stage);
  }

  // The calls of tools that are the answer, where it has no text.
  get calls() {
    const calling = this.all.filter((stage) => shownCalls(stage));
    const found = calling.find((stage) => stage.id === this.chosen) ?? calling.at(-1);
    return found ? shownCalls(found) : "";
  }

  // The extracted answer of the response that was taken.
  get answer() {
    const answers = this.all.filter((stage) => stage.answer);
    return this.chosen === null ? answers.at(-1)?.answer ?? null : this.lines.get(this.chosen)?.stage.answer ?? null;
  }

  get responses() {
    return this.all.filter((stage) => stage.kind === "generated").length;
  }

  get tokens() {
    return this.all.reduce((sum, stage) => sum + tokensOf(stage), 0);
  }

  add(stage, fresh) {
    if (this.lines.has(stage.id)) return;
    const kind = KINDS[stage.kind] ? stage.kind : "stage";
    const bar = make("i");
    const line = {
      stage,
      name: make("span", { class: "kind" }),
      marks: make("span", { class: "marks" }),
      value: make("span", { class: "value-mark", hidden: "" }),
      notes: make("span", { class: "notes" }),
      glance: make("span", { class: "glance" }),
      cost: make("span", { class: "cost" }),
      inside: make("div", { class: "inside" }),
    };
    const summary = make("summary", { class: `kind-${kind}` }, line.name,
      make("span", { class: "what" }, line.value, line.marks, line.notes, line.glance), line.cost,
      make("span", { class: "time", "aria-hidden": "true" }, bar));
    const details = make("details", { "data-stage": stage.id }, summary, line.inside);
    details.addEventListener("toggle", () => { if (details.open) this.open(line); });
    line.item = make("li", fresh ? { class: "new" } : {}, details);
    const parent = this.lines.get(stage.parent)?.item;
    const list = parent ? parent.querySelector(":scope > ol") ?? parent.appendChild(make("ol")) : this.list;
    list.append(line.item);
    this.lines.set(stage.id, line);
    this.bars.push([bar, stage.started_ms, stage.elapsed_ms]);
    this.end = Math.max(this.end, stage.started_ms + stage.elapsed_ms);
    for (const [element, from, took] of this.bars) {
      element.style.marginLeft = `${(100 * from) / this.end}%`;
      element.style.width = `${Math.min((100 * took) / this.end, 100 - (100 * from) / this.end)}%`;
    }
    this.write(line);
    if (kind === "decided" && typeof stage.of === "number") {
      this.lines.get(this.chosen)?.item.firstElementChild.classList.remove("chosen");
      this.chosen = stage.of;
      this.lines.get(stage.of)?.item.firstElementChild.classList.add("chosen");
    }
  }

  write({ stage, name, value, glance, cost }) {
    const kind = KINDS[stage.kind] ?? "stage";
    const about = typeof stage.of === "number" ? (stage.kind === "decided" ? `takes #${stage.of}` : `of #${stage.of}`) : "";
    name.replaceChildren([kind, stage.title, about].filter(Boolean).join(" · "), make("span", { class: "number" }, ` #${stage.id}`));
    const said = stage.text || shownCalls(stage);
    glance.textContent = said.slice(0, 400);
    const short = typeof stage.score === "number" ? stage.score.toPrecision(3) : stage.answer ?? "";
    value.hidden = !short;
    value.textContent = short;
    value.title = typeof stage.score === "number" ? "its score" : "the answer in it";
    const tokens = tokensOf(stage);
    cost.textContent = [tokens ? `${number(tokens)} tokens` : "", time(stage.elapsed_ms)].filter(Boolean).join(" · ");
  }

  // All stages, as they are once the recipe has ended: with their answers, and whether it can be run again from them.
  know(stages) {
    this.known = true;
    for (const stage of stages) {
      this.add(stage, false);
      const line = this.lines.get(stage.id);
      line.stage = stage;
      this.write(line);
      // What a person is about to write stays.
      if (line.inside.hasChildNodes() && !line.inside.contains(document.activeElement)) fillStage(this, stage, line.inside);
      showAgain(this, stage, line.inside);
    }
    for (const { stage, value } of this.lines.values()) {
      value.classList.toggle("same", Boolean(this.answer) && stage.answer === this.answer);
    }
  }

  open(line) {
    if (line.inside.hasChildNodes()) return;
    fillStage(this, line.stage, line.inside);
    showAgain(this, line.stage, line.inside);
  }

  openAll(open) {
    for (const details of this.list.querySelectorAll("details[data-stage]")) details.open = open;
  }

  // What was said of a stage, on its line.
  note({ stage, reaction, edit }) {
    const [text, kind] = edit?.text !== undefined ? ["edited", ""] : reaction === "down" || edit ? ["rejected", "down"] : reaction ? ["good", "up"] : ["commented", ""];
    this.lines.get(stage)?.notes.replaceChildren(make("span", { class: `badge ${kind}` }, text));
  }

  // What is otherwise than in the run before: the stage that a person changed, and what came out differently behind it.
  mark(before, changed) {
    const known = new Map();
    for (const stage of before) known.set(content(stage), (known.get(content(stage)) ?? 0) + 1);
    for (const { stage, marks, item } of this.lines.values()) {
      const left = known.get(content(stage)) ?? 0;
      known.set(content(stage), left - 1);
      if (left > 0) continue;
      const edited = stage.id === changed;
      item.firstElementChild.classList.add(edited ? "edited" : "differs");
      marks.replaceChildren(make("span", { class: "mark" }, edited ? "changed here" : "differs"));
    }
  }
}
