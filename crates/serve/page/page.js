"use strict";
// Everything that a model or a person wrote is put into the page as text, never as markup.

const $ = (id) => document.getElementById(id);
const PLAIN = "plain";

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

let ids = 0;
const newId = (name) => `${name}-${++ids}`;

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

// ---- the API ----

function headers(extra = {}) {
  const key = sessionStorage.getItem("key");
  return key ? { ...extra, authorization: `Bearer ${key}` } : extra;
}

class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function checked(response) {
  if (response.ok) return response;
  if (response.status === 401) $("key-form").hidden = false;
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message || message;
  } catch {
    // The status alone has to do.
  }
  throw new ApiError(message, response.status);
}

async function get(path) {
  return (await checked(await fetch(path, { headers: headers() }))).json();
}

async function post(path, body, signal) {
  const request = {
    method: "POST", headers: headers({ "content-type": "application/json" }), body: JSON.stringify(body), signal,
  };
  return checked(await fetch(path, request));
}

// ---- pickers ----

let models = [];
let recipes = [];

const offer = (name) => recipes.find((recipe) => recipe.name === name);
const hasSamples = (name) => Boolean(offer(name)?.settings?.properties?.samples);

function options(select, list, chosen) {
  select.replaceChildren(...list.map(([value, text]) => make("option", { value }, text)));
  if (chosen !== undefined && list.some(([value]) => value === chosen)) select.value = chosen;
}

async function loadPickers() {
  const [listed, offered] = await Promise.all([get("/v1/models"), get("/v1/recipes")]);
  models = listed.data.filter((model) => !model.id.startsWith("elenchus/"));
  recipes = offered.data;
  options($("model"), models.map((model) => [model.id, model.id]), localStorage.getItem("model") ?? undefined);
  const names = recipes.map((recipe) => [recipe.name, recipe.name]);
  const remembered = localStorage.getItem("recipe") ?? "self-consistency";
  options($("recipe"), [[PLAIN, "plain (the model alone)"], ...names], remembered);
  options($("beside"), [["", "nothing"], [PLAIN, "plain (the model alone)"], ...names]);
  options($("filter-recipe"), [["", "all"], [PLAIN, PLAIN], ...names]);
  pickersChanged();
}

function pickersChanged() {
  const recipe = $("recipe").value;
  localStorage.setItem("recipe", recipe);
  localStorage.setItem("model", $("model").value);
  $("samples-field").hidden = !hasSamples(recipe);
  const found = offer(recipe);
  const paper = found?.paper ? ` (${found.paper})` : "";
  $("recipe-summary").textContent = found ? `${found.summary}${paper}` : "The model answers as it is.";
  const examples = models.find((model) => model.id === $("model").value)?.elenchus?.examples ?? [];
  $("examples").hidden = examples.length === 0;
  $("examples").replaceChildren(...examples.map((example) => make("button", {
    type: "button", onclick: () => { $("question").value = example; $("question").focus(); estimateSoon(); },
  }, example)));
  estimateSoon();
}

function requestBody(recipe) {
  const wish = { recipe };
  const samples = Number.parseInt($("samples").value, 10);
  if (recipe === $("recipe").value && hasSamples(recipe) && samples > 0) wish.samples = samples;
  return {
    model: $("model").value, messages: [{ role: "user", content: $("question").value }], elenchus: wish,
  };
}

let estimateTimer;
function estimateSoon() {
  clearTimeout(estimateTimer);
  estimateTimer = setTimeout(estimate, 250);
}

async function estimate() {
  if (!$("question").value.trim() || !$("model").value) { $("estimate").textContent = ""; return; }
  try {
    const found = await (await post("/v1/estimate", requestBody($("recipe").value))).json();
    const money = found.priced ? `, ${found.usage.money.toPrecision(3)} money` : "";
    const tokens = found.usage.prompt_tokens + found.usage.completion_tokens;
    $("estimate").textContent = `at most ${count(found.usage.calls, "call")}, about ${tokens} tokens${money}`;
  } catch {
    // What is wrong is said when the question is asked.
    $("estimate").textContent = "";
  }
}

const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
const time = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
const percent = (share) => `${Math.round(100 * share)} %`;

// ---- stages ----

const KINDS = { generated: "wrote", evaluated: "judged", decided: "decided", failed: "failed", stage: "stage" };

const shownCalls = (stage) => (stage.tool_calls ?? []).map((call) => `${call.function.name}(${call.function.arguments})`).join("\n");

class Stages {
  constructor() {
    this.list = make("ol", { class: "stages" });
    this.items = new Map();
    this.bars = [];
    this.end = 1;
    this.traceId = null;
    // Of an answer without a recipe: what was asked. It can be asked otherwise.
    this.question = null;
    this.fixed = new Map();
    this.calls = new Map();
    this.chosen = null;
    this.written = new Map();
  }

  // Whether the recipe can be run again from each stage is known once all of them are.
  know(stages) {
    for (const stage of stages) {
      this.fixed.set(stage.id, stage.fixed ?? null);
      this.showAgain(stage.id);
    }
  }

  showAgain(id) {
    const inside = this.items.get(id)?.querySelector(":scope > details > .inside");
    if (!inside?.hasChildNodes()) return;
    const reason = this.fixed.get(id);
    for (const button of inside.querySelectorAll("[data-rerun]")) button.hidden = reason !== null;
    inside.querySelector("[data-fixed]")?.remove();
    if (reason) inside.append(make("p", { class: "hint", "data-fixed": "" }, `Cannot be run again from here: ${reason}.`));
  }

  add(stage, fresh) {
    const kind = KINDS[stage.kind] ? stage.kind : "stage";
    const tokens = stage.prompt_tokens + stage.completion_tokens;
    const score = typeof stage.score === "number" ? stage.score.toPrecision(3) : "";
    const about = stage.of === undefined || stage.of === null ? "" : ` #${stage.of}`;
    const title = [KINDS[kind], stage.title].filter(Boolean).join(" · ") + (kind === "stage" ? "" : about);
    const bar = make("i");
    const summary = make("summary", { class: `kind-${kind}` },
      make("span", { class: "kind" }, `#${stage.id} ${title}`),
      make("span", { class: "glance" }, [score, stage.text || shownCalls(stage)].filter(Boolean).join(" — ")),
      make("span", { class: "cost" }, [tokens ? `${tokens} tokens` : "", time(stage.elapsed_ms)].filter(Boolean).join(" · ")),
      make("span", { class: "time", "aria-hidden": "true" }, bar));
    const inside = make("div", { class: "inside" });
    const details = make("details", { "data-stage": stage.id }, summary, inside);
    details.addEventListener("toggle", () => { if (details.open && !inside.hasChildNodes()) { this.fill(inside, stage); this.showAgain(stage.id); } });
    const item = make("li", fresh ? { class: "new" } : {}, details);
    const parent = this.items.get(stage.parent);
    let list = this.list;
    if (parent) {
      list = parent.querySelector(":scope > ol") ?? parent.appendChild(make("ol"));
    }
    list.append(item);
    this.items.set(stage.id, item);
    this.bars.push([bar, stage.started_ms, stage.elapsed_ms]);
    this.end = Math.max(this.end, stage.started_ms + stage.elapsed_ms);
    for (const [element, from, took] of this.bars) {
      element.style.marginLeft = `${(100 * from) / this.end}%`;
      element.style.width = `${Math.min((100 * took) / this.end, 100 - (100 * from) / this.end)}%`;
    }
    if (kind === "generated") this.written.set(stage.id, stage.text || shownCalls(stage));
    if (shownCalls(stage)) this.calls.set(stage.id, shownCalls(stage));
    if (kind === "decided" && about) {
      this.chosen = stage.of;
      this.items.get(stage.of)?.firstElementChild.classList.add("chosen");
    }
  }

  fill(inside, stage) {
    if (stage.model) inside.append(make("p", { class: "hint" }, `by ${stage.model}`));
    const calls = shownCalls(stage);
    if (stage.text || !calls) inside.append(make("pre", { tabindex: "0" }, stage.text || "(no text)"));
    if (calls) inside.append(make("p", { class: "hint" }, "calls"), make("pre", { tabindex: "0", "data-calls": "" }, calls));
    if (stage.kind === "decided") { this.fillDecision(inside, stage); return; }
    if (stage.kind === "failed" && this.question !== null) {
      inside.append(make("div", { class: "reactions" },
        make("button", { type: "button", class: "small", "data-rerun": "failed", onclick: () => this.again(stage, {}) }, "Ask once more")));
      this.fillQuestion(inside, stage);
      return;
    }
    // What a critic said can be edited like a text; a bare score has no words.
    if (stage.kind !== "generated" && !(stage.kind === "evaluated" && stage.text)) return;
    const field = newId("edit");
    const text = make("textarea", { id: field, rows: "3" });
    text.value = stage.text ?? "";
    const part = stage.kind === "generated" ? "answer" : "critique";
    const send = (what, said) => async () => {
      if (!this.traceId) { say("Wait until the answer is stored."); return; }
      await feedback({ trace_id: this.traceId, stage: stage.id, ...said() }, what);
    };
    inside.append(
      make("div", { class: "reactions" },
        make("button", { type: "button", class: "small", onclick: send("Stage marked good", () => ({ reaction: "up" })) }, "Good"),
        make("button", { type: "button", class: "small", onclick: send("Stage rejected", () => ({ reaction: "down", edit: { part } })) }, "Reject")),
      make("label", { for: field }, "As it should be"), text,
      make("div", { class: "reactions" },
        make("button", { type: "button", class: "small", onclick: send("Edit stored", () => ({ edit: { part, text: text.value } })) }, "Store edit"),
        make("button", { type: "button", class: "small", "data-rerun": "edited", onclick: () => this.again(stage, { text: text.value }) }, "Run again from here"),
        make("button", { type: "button", class: "small", "data-rerun": "rejected", onclick: () => this.again(stage, {}) }, "Reject and run again")));
    if (this.question !== null) this.fillQuestion(inside, stage);
  }

  // Without a recipe the same request can be made with another question. Asked with a recipe, nothing of its trace could stay.
  fillQuestion(inside, stage) {
    const field = newId("question");
    const text = make("textarea", { id: field, rows: "2", "data-field": "question" });
    text.value = this.question;
    const send = () => {
      if (!text.value.trim() || text.value === this.question) {
        say("Write the question as it should have been.");
        text.focus();
        return;
      }
      this.again(stage, { question: text.value });
    };
    text.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(); });
    inside.append(make("div", { "data-rerun": "question" },
      make("label", { for: field }, "As it should have been asked"), text,
      make("div", { class: "reactions" }, make("button", { type: "button", class: "small", onclick: send }, "Ask this instead"))));
  }

  // A last decision can take another of the responses before it.
  fillDecision(inside, stage) {
    const others = [...this.written].filter(([id, text]) => id < stage.id && id !== stage.of && text);
    if (others.length === 0) return;
    const field = newId("choose");
    const options = others.map(([id, text]) => make("option", { value: String(id) }, `#${id} ${text.slice(0, 80)}`));
    const select = make("select", { id: field }, ...options);
    inside.append(make("div", { "data-rerun": "chosen" },
      make("label", { for: field }, "It should have taken"), select,
      make("div", { class: "reactions" },
        make("button", { type: "button", class: "small", onclick: () => this.again(stage, { choose: Number(select.value) }) }, "Take this answer"))));
  }

  // The recipe again, with what the person wants otherwise: the stage's text, its choice, or the question; or the stage
  // written anew. What was said by that is stored.
  async again(stage, change) {
    if (!this.traceId) { say("Wait until the answer is stored."); return; }
    const panels = this.list.closest(".panels");
    const panel = new Panel(`Again from stage #${stage.id}`);
    if (this.question !== null) {
      panel.stages.question = change.question ?? this.question;
      panel.asks(panel.stages.question);
    }
    panels.classList.remove("single");
    panel.element.classList.add("again");
    panels.append(panel.element);
    // On a phone it stands far below, and a screen reader would not come upon it.
    panel.title.focus({ preventScroll: true });
    if (panel.title.getBoundingClientRect().top > innerHeight / 2) panel.element.scrollIntoView();
    say("Running again …");
    try {
      await ask(panel, { stage: stage.id, ...change }, new AbortController().signal, `/v1/traces/${encodeURIComponent(this.traceId)}/rerun`);
      // What failed was no answer that could be rejected.
      const kept = change.question !== undefined ? "the other question is kept as a comment" : "the edit is stored";
      say(stage.kind === "failed" && change.question === undefined ? "Answered." : `Answered again; ${kept}.`);
    } catch (error) {
      panel.fail(error.message);
      say(error.message, true);
    }
  }
}

async function feedback(body, done) {
  try {
    await post("/v1/feedback", body);
    say(`${done}.`);
    return true;
  } catch (error) {
    say(error.message, true);
    return false;
  }
}

// ---- an answer with its stages ----

class Panel {
  constructor(title) {
    this.stages = new Stages();
    this.answer = make("div", { class: "answer waiting", "aria-live": "polite" });
    this.facts = make("ul", { class: "facts" });
    this.react = make("div", { class: "react", hidden: "" });
    this.said = make("div", { class: "said" });
    this.answerSide = make("div", { class: "answer-side" }, this.answer, this.facts, this.react, this.said);
    const side = make("div", { class: "stage-side" }, make("h3", {}, "How it came about"), this.stages.list);
    this.title = make("h3", { tabindex: "-1" }, title);
    this.element = make("article", { class: "panel" }, this.title, this.answerSide, side);
  }

  // What is answered here, where that is not plain to see.
  asks(question) {
    this.answerSide.prepend(make("p", { class: "asked" }, question || "(no question)"));
  }

  fact(name, value) {
    this.facts.append(make("li", {}, `${name} `, make("b", {}, value)));
  }

  from(parent) {
    this.facts.append(make("li", {}, "again from ", make("a", { href: `#trace=${parent.trace_id}` }, `stage #${parent.stage}`)));
  }

  // What came of an answer stays above the reason why no more came.
  fail(message) {
    this.answer.classList.remove("waiting");
    if (this.answer.textContent) {
      this.answer.after(make("p", { class: "answer bad" }, message));
      return;
    }
    this.answer.classList.add("bad");
    this.answer.textContent = message;
  }

  // An answer that is only calls of tools has no text of its own.
  showCalls() {
    const { calls, chosen } = this.stages;
    const shown = calls.get(chosen) ?? [...calls.values()].pop();
    if (!this.answer.textContent && shown) this.answer.append(make("pre", { "data-calls": "" }, shown));
  }

  report(report) {
    this.answer.classList.remove("waiting");
    if (report.abstained) this.fact("no sure answer:", report.abstained);
    if (report.answer) this.fact("answer", report.answer);
    if (report.parent) this.from(report.parent);
    if (report.confidence) this.fact(`confidence (${report.confidence.kind})`, percent(report.confidence.value));
    if (typeof report.agreement === "number") this.fact("agreement", percent(report.agreement));
    const spent = report.budget.spent;
    this.fact("cost", `${count(spent.calls, "call")}, ${spent.prompt_tokens + spent.completion_tokens} tokens`);
    if (spent.money) this.fact("money", spent.money.toPrecision(3));
    if (report.trace_id) this.ready(report.trace_id);
  }

  // Once the trace is stored, it can be talked about.
  ready(traceId, readable = true) {
    this.stages.traceId = traceId;
    this.element.dataset.trace = traceId;
    const buttons = [["love", "♥ Love"], ["up", "▲ Up"], ["down", "▼ Down"]].map(([reaction, text]) => {
      const button = make("button", { type: "button", "aria-pressed": "false", "data-reaction": reaction }, text);
      button.addEventListener("click", async () => {
        if (!(await feedback({ trace_id: traceId, reaction }, `Stored: ${reaction}`))) return;
        for (const other of this.react.querySelectorAll("[data-reaction]")) {
          other.setAttribute("aria-pressed", String(other === button));
        }
      });
      return button;
    });
    const box = (name, title, field, done) => {
      const id = newId(name);
      const text = make("textarea", { id, rows: "2", "data-field": name });
      const send = make("button", { type: "button", class: "small", "data-send": name, onclick: async () => {
        if (!text.value.trim()) { text.focus(); return; }
        if (await feedback({ trace_id: traceId, [field]: text.value }, done)) text.value = "";
      } }, "Store");
      return make("details", { class: "said" }, make("summary", {}, title), make("label", { for: id }, title), text, send);
    };
    this.react.replaceChildren(
      make("div", { class: "reactions", role: "group", "aria-label": "Your reaction" }, ...buttons,
        readable ? make("a", { href: `#trace=${traceId}` }, "Trace") : null),
      box("comment", "Comment", "comment", "Comment stored"),
      box("correction", "A better answer", "correction", "Better answer stored"));
    this.react.hidden = false;
  }
}

// ---- asking ----

let running = null;

async function* lines(response) {
  const decoder = new TextDecoder();
  let rest = "";
  const reader = response.body.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const parts = rest.split(/\r?\n/);
    rest = parts.pop();
    yield* parts;
    if (done) return;
  }
}

const CHAT = "/v1/chat/completions";

async function ask(panel, body, signal, path = CHAT) {
  const options = path === CHAT ? { stream_options: { include_usage: true } } : {};
  const response = await post(path, { ...body, ...options, stream: true }, signal);
  let traceId = response.headers.get("x-elenchus-trace-id");
  let finished = false;
  for await (const line of lines(response)) {
    if (line.startsWith(": elenchus ")) {
      const said = JSON.parse(line.slice(11));
      if (said.type === "stage") panel.stages.add(said.stage, true);
      continue;
    }
    if (!line.startsWith("data:")) continue;
    const data = line.slice(5).trim();
    if (data === "[DONE]") { finished = true; break; }
    const piece = JSON.parse(data);
    if (piece.error) throw new ApiError(piece.error.message);
    // A request of the older kind (`prompt`) is answered with texts.
    panel.answer.append(piece.choices?.[0]?.delta?.content ?? piece.choices?.[0]?.text ?? "");
    if (piece.elenchus) {
      panel.report(piece.elenchus);
      if (panel.stages.items.size === 0) piece.elenchus.stages.forEach((stage) => panel.stages.add(stage, true));
      panel.stages.know(piece.elenchus.stages);
      traceId = null;
    }
  }
  panel.answer.classList.remove("waiting");
  if (traceId && finished) await passedOn(panel, traceId);
  panel.showCalls();
}

// An answer that was passed on as it is: the server's own words, with a trace of one stage. The answer stands whether or
// not the trace can be seen.
async function passedOn(panel, traceId) {
  let trace;
  try {
    trace = await get(`/v1/traces/${encodeURIComponent(traceId)}`);
  } catch (error) {
    // The head of a stream names its trace before that is stored.
    if (error.status === 404) {
      panel.fact("not stored:", "nothing can be said of this answer");
      return;
    }
    // A key may ask and say what it thinks without the right to read.
    panel.ready(traceId, error.status !== 403);
    return;
  }
  panel.fact("cost", `${trace.usage.prompt_tokens + trace.usage.completion_tokens} tokens`);
  if (trace.parent) panel.from(trace.parent);
  trace.stages.forEach((stage) => panel.stages.add(stage, true));
  panel.stages.know(trace.stages);
  panel.ready(traceId);
}

async function submit(event) {
  event.preventDefault();
  if (running) running.abort();
  const stop = new AbortController();
  running = stop;
  say("Asking …");
  $("stop").hidden = false;
  const names = [$("recipe").value, $("beside").value].filter((name, index, all) => name && all.indexOf(name) === index);
  const panels = names.map((name) => new Panel(`${name} · ${$("model").value}`));
  panels.forEach((panel, index) => { if (names[index] === PLAIN) panel.stages.question = $("question").value; });
  $("panels").classList.toggle("single", panels.length === 1);
  $("panels").replaceChildren(...panels.map((panel) => panel.element));
  const outcomes = await Promise.allSettled(panels.map((panel, index) => ask(panel, requestBody(names[index]), stop.signal)));
  let problem = "";
  outcomes.forEach((outcome, index) => {
    if (outcome.status === "fulfilled") return;
    const message = outcome.reason.name === "AbortError" ? "Stopped." : outcome.reason.message;
    panels[index].fail(message);
    problem = message;
  });
  if (running === stop) {
    running = null;
    $("stop").hidden = true;
    const stored = panels.every((panel) => panel.stages.traceId);
    say(problem ? "There is no answer." : stored ? "Answered and stored." : "Answered; not stored.", Boolean(problem));
  }
}

// ---- browsing ----

let next = null;

async function browse(more) {
  const query = new URLSearchParams();
  for (const name of ["text", "recipe", "status", "reaction"]) {
    const value = $(`filter-${name}`).value.trim();
    if (value) query.set(name, value);
  }
  if (more && next) query.set("before", next);
  try {
    const list = await get(`/v1/traces?${query}`);
    next = list.next ?? null;
    const rows = list.data.map((trace) => {
      const when = new Date(trace.created_ms).toLocaleString();
      const sure = typeof trace.confidence === "number" ? ` · confidence ${percent(trace.confidence)}` : "";
      return make("li", {}, make("a", { href: `#trace=${trace.id}` },
        make("div", { class: "line" }, trace.question || "(no question)"),
        make("div", { class: "line" }, trace.answer || "(no answer)"),
        make("div", { class: "quiet" }, `${when} · ${trace.recipe} · ${trace.model} · ${trace.status} · ${time(trace.elapsed_ms)} · ${trace.usage.prompt_tokens + trace.usage.completion_tokens} tokens${sure}`)));
    });
    if (more) $("traces").append(...rows); else $("traces").replaceChildren(...rows);
    if (!more && rows.length === 0) $("traces").append(make("li", { class: "hint" }, "Nothing yet."));
    $("more").hidden = !next;
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

function shownFeedback(entry) {
  const where = entry.stage === undefined ? "" : `stage #${entry.stage}: `;
  const parts = [];
  if (entry.reaction) parts.push(entry.reaction);
  if (entry.metric) parts.push(`${entry.metric} ${entry.score}`);
  if (entry.comment) parts.push(entry.comment);
  if (entry.correction) parts.push(`better: ${entry.correction}`);
  if (entry.edit) parts.push(entry.edit.text === undefined ? `${entry.edit.part} rejected` : `${entry.edit.part} should be: ${entry.edit.text}`);
  return where + parts.join(" · ");
}

// What was asked without a recipe, whole; null where it is no single text that could be another one.
function askedPlainly({ recipe, request }) {
  if (![PLAIN, "completions"].includes(recipe)) return null;
  const users = Array.isArray(request?.messages) ? request.messages.filter((message) => message.role === "user") : [];
  const said = users.at(-1)?.content ?? request?.prompt;
  if (Array.isArray(said) && users.length > 0) return said.filter((part) => part.type === "text").map((part) => part.text).join("\n");
  return typeof said === "string" ? said : null;
}

async function openTrace(id) {
  $("trace").replaceChildren();
  try {
    const trace = await get(`/v1/traces/${encodeURIComponent(id)}`);
    const panel = new Panel(`${trace.recipe} · ${trace.model}`);
    panel.asks(trace.question);
    panel.stages.question = askedPlainly(trace);
    panel.answer.classList.remove("waiting");
    panel.answer.classList.toggle("bad", trace.status === "failed");
    panel.answer.textContent = trace.answer;
    if (trace.parent) panel.from(trace.parent);
    panel.fact("ended", trace.status);
    panel.fact("took", time(trace.elapsed_ms));
    panel.fact("cost", `${trace.usage.prompt_tokens + trace.usage.completion_tokens} tokens`);
    if (typeof trace.confidence === "number") panel.fact("confidence (raw)", percent(trace.confidence));
    trace.stages.forEach((stage) => panel.stages.add(stage, false));
    panel.stages.know(trace.stages);
    panel.showCalls();
    if (!panel.answer.textContent) panel.answer.textContent = `(${trace.status})`;
    panel.ready(trace.id);
    if (trace.feedback.length) {
      panel.said.append(make("h3", {}, "What was said"), make("ul", {}, ...trace.feedback.map((entry) => make("li", {}, shownFeedback(entry)))));
    }
    $("trace").classList.add("single");
    $("trace").replaceChildren(panel.element);
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

async function totals() {
  try {
    const { data } = await get("/v1/totals");
    $("totals").tBodies[0].replaceChildren(...data.map((row) => {
      const cells = [row.recipe, row.traces, row.love, row.up, row.down, row.corrections].map((value) => make("td", {}, String(value)));
      const good = make("td", {}, "—");
      if (typeof row.good === "number") {
        const [low, high] = row.good_interval;
        good.replaceChildren(`${percent(row.good)} (${percent(low)} to ${percent(high)})`, interval(low, high, row.good));
      }
      return make("tr", {}, ...cells, good, make("td", {}, String(row.usage.prompt_tokens + row.usage.completion_tokens)));
    }));
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

// ---- runs ----

const RUN_EVERY_MS = 2000;
let runTimer;

async function runs() {
  try {
    const list = await get("/v1/runs");
    $("runs-link").hidden = !list.configured;
    $("runs").tBodies[0].replaceChildren(...list.data.map((run) => make("tr", {},
      make("td", {}, make("a", { href: `#run=${encodeURIComponent(run.name)}` }, run.name)),
      make("td", { class: "text" }, [run.command, run.recipe].filter(Boolean).join(" · ") || "—"),
      make("td", { class: `text state-${run.state}` }, run.state),
      make("td", {}, String(run.units)),
      make("td", {}, new Date(run.updated_ms).toLocaleString()))));
    if (list.data.length === 0) {
      const text = list.configured ? "No runs yet." : "No folder of runs was named: elenchus serve --runs DIR";
      $("runs").tBodies[0].append(make("tr", {}, make("td", { colspan: "5", class: "hint" }, text)));
    }
    return list;
  } catch (error) {
    say(error.message, true);
    return null;
  }
}

const isInterval = (value) => typeof value?.value === "number" && typeof value.low === "number" && typeof value.high === "number";
const short = (number) => (Number.isInteger(number) ? String(number) : number.toPrecision(4));

// A measured value: a number, or one with its interval and a bar where it is a share.
function measured(value) {
  if (typeof value === "number") return make("td", {}, short(value));
  if (!isInterval(value)) return make("td", {}, "—");
  const cell = make("td", {}, `${short(value.value)} (${short(value.low)} to ${short(value.high)})`);
  if (value.low >= 0 && value.high <= 1) cell.append(interval(value.low, value.high, value.value));
  return cell;
}

function interval(low, high, at) {
  const band = make("i");
  band.style.left = `${100 * low}%`;
  band.style.width = `${100 * (high - low)}%`;
  const point = make("b");
  point.style.left = `${100 * at}%`;
  return make("span", { class: "interval", "aria-hidden": "true" }, band, point);
}

// The report of a run in a frame where nothing of it runs. Another run gets another frame, so that none is ever seen under
// the name of another.
function showReport(address) {
  const shown = $("run-report").querySelector("iframe")?.getAttribute("src") ?? null;
  if (shown === (address ?? null)) return;
  const frame = address ? [make("iframe", { class: "report", title: "Report of the run", sandbox: "", src: address })] : [];
  $("run-report").replaceChildren(...frame);
}

async function openRun(name) {
  clearTimeout(runTimer);
  if ($("run-title").textContent !== `Run ${name}`) {
    $("run-title").textContent = `Run ${name}`;
    $("run-facts").textContent = "";
    for (const part of [$("run-metrics").tHead, $("run-metrics").tBodies[0]]) part.replaceChildren();
    $("run-config").querySelector("pre").textContent = "";
    showReport(null);
  }
  let run;
  try {
    run = await get(`/v1/runs/${encodeURIComponent(name)}`);
  } catch (error) {
    say(error.message, true);
    return;
  }
  // Another one may have been opened meanwhile.
  if ($("run-title").textContent !== `Run ${run.name}`) return;
  const facts = [[run.command, run.recipe].filter(Boolean).join(" · "), run.state, count(run.units, "unit") + " done"];
  if (run.latest) facts.push(`last: ${run.latest}`);
  facts.push(`written ${new Date(run.updated_ms).toLocaleTimeString()}`);
  $("run-facts").textContent = facts.filter(Boolean).join(" · ");
  const columns = [...new Set(run.metrics.flatMap((row) => Object.keys(row)))]
    .filter((column) => run.metrics.some((row) => typeof row[column] === "number" || isInterval(row[column])));
  $("run-metrics").tHead.replaceChildren(make("tr", {}, ...columns.map((column) => make("th", { scope: "col" }, column.replaceAll("_", " ")))));
  $("run-metrics").tBodies[0].replaceChildren(...run.metrics.map((row) => make("tr", {}, ...columns.map((column) => measured(row[column])))));
  $("run-config").querySelector("pre").textContent = JSON.stringify(run.config, null, 2);
  showReport(run.report);
  // One that runs is looked at again for as long as its page is open.
  if (run.state === "running") {
    runTimer = setTimeout(() => { if (!$("view-run").hidden && $("run-title").textContent === `Run ${run.name}`) openRun(name); }, RUN_EVERY_MS);
  }
}

async function download(event) {
  event.preventDefault();
  const format = event.currentTarget.dataset.export;
  try {
    const response = await checked(await fetch(`/v1/export?format=${format}`, { headers: headers() }));
    const link = make("a", { href: URL.createObjectURL(await response.blob()), download: `${format}.jsonl` });
    link.click();
    URL.revokeObjectURL(link.href);
    say(`${format}.jsonl saved.`);
  } catch (error) {
    say(error.message, true);
  }
}

// ---- views ----

const VIEWS = ["ask", "browse", "trace", "totals", "runs", "run"];
const WITHIN = { trace: "browse", run: "runs" };

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
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.dataset.view === view || link.dataset.view === WITHIN[view];
    if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (view === "browse") browse(false);
  if (view === "totals") totals();
  if (view === "trace" && value) openTrace(value);
  if (view === "runs") runs().then((list) => list && say(""));
  if (view === "run" && value) openRun(value);
}

function start() {
  loadPickers().catch((error) => say(error.message, true));
  // Whether there are runs to see; a key without the right to read has none.
  get("/v1/runs").then((list) => { $("runs-link").hidden = !list.configured; }, () => {});
  show();
}

window.addEventListener("hashchange", () => { if (location.hash !== "#main") show(); });
document.addEventListener("DOMContentLoaded", () => {
  $("ask-form").addEventListener("submit", submit);
  $("stop").addEventListener("click", () => running?.abort());
  $("question").addEventListener("input", estimateSoon);
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask-form").requestSubmit();
  });
  for (const id of ["model", "recipe", "samples"]) $(id).addEventListener("change", pickersChanged);
  $("filter-form").addEventListener("submit", (event) => { event.preventDefault(); browse(false); });
  $("more").addEventListener("click", () => browse(true));
  for (const link of document.querySelectorAll("[data-export]")) link.addEventListener("click", download);
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", $("key").value.trim());
    $("key").value = "";
    $("key-form").hidden = true;
    start();
  });
  start();
});
