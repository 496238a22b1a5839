// Who answers: a model, a recipe or several composed, and another beside it; and what that costs at most.

import { PLAIN, get, post } from "./api.js";
import { $, count, make, money, remember, remembered, sentence, tokensOf } from "./dom.js";

// The choice of a recipe that is written as text.
const WRITTEN = "*";
// From here on a request is no longer something that one sends in passing.
const MANY_CALLS = 50;
const MANY_TOKENS = 50_000;

let models = [];
let recipes = [];

const offer = (name) => recipes.find((recipe) => recipe.name === name);
const hasSamples = (name) => Boolean(offer(name)?.settings?.properties?.samples);

function options(select, list, chosen) {
  select.replaceChildren(...list.map(([value, text]) => make("option", { value }, text)));
  if (chosen && list.some(([value]) => value === chosen)) select.value = chosen;
}

// What a picker says, chosen or written.
const picked = (id) => ($(id).value === WRITTEN ? $(`${id}-text`).value.trim() : $(id).value);

// The recipes that are to answer, without doubles.
export const chosenRecipes = () => [...new Set([picked("recipe"), picked("beside")])].filter(Boolean);

export async function loadPickers() {
  const [listed, offered] = await Promise.all([get("/v1/models"), get("/v1/recipes")]);
  models = listed.data.filter((model) => !model.id.startsWith("elenchus/"));
  recipes = offered.data;
  options($("model"), models.map((model) => [model.id, model.id]), remembered("model"));
  const all = [[PLAIN, "plain (the model alone)"], ...recipes.map((recipe) => [recipe.name, recipe.name]), [WRITTEN, "several, as text …"]];
  options($("recipe"), all, remembered("recipe") ?? "self-consistency");
  options($("beside"), [["", "nothing"], ...all]);
  $("recipe-text").value = remembered("recipe-text") ?? "";
  $("known-models").replaceChildren(...models.map((model) => make("option", { value: model.id })));
  pickersChanged();
}

// Recipes with which the chosen model cannot answer stay in the lists, greyed, with the reason.
let markedFor;
async function markRecipes() {
  const model = $("model").value;
  if (!model || model === markedFor) return;
  markedFor = model;
  let found;
  // What cannot be asked now is not known: the request itself will say it.
  try { found = (await get(`/v1/recipes?model=${encodeURIComponent(model)}`)).data; } catch { found = recipes; }
  if (model !== $("model").value) return;
  for (const id of ["recipe", "beside"]) {
    for (const option of $(id).options) {
      const cannot = found.find((recipe) => recipe.name === option.value)?.cannot;
      option.disabled = Boolean(cannot);
      option.title = cannot ?? "";
      const name = option.value && offer(option.value) ? option.value : option.textContent;
      option.textContent = cannot ? `${name} (not with this model)` : name;
    }
  }
}

export function pickersChanged() {
  markRecipes();
  for (const id of ["model", "recipe", "recipe-text"]) remember(id, $(id).value);
  for (const id of ["recipe", "beside"]) $(`${id}-written`).hidden = $(id).value !== WRITTEN;
  $("compose-hint").hidden = ![$("recipe").value, $("beside").value].includes(WRITTEN);
  const name = $("recipe").value;
  $("samples-field").hidden = !hasSamples(name);
  const found = offer(name);
  const paper = found?.paper ? make("a", { href: `https://arxiv.org/abs/${found.paper.replace("arXiv:", "")}`, rel: "noreferrer" }, found.paper) : "";
  const summary = name === WRITTEN ? "" : found ? `${sentence(found.summary)} ` : "The model answers as it is.";
  $("recipe-summary").replaceChildren(summary, paper);
  const examples = models.find((model) => model.id === $("model").value)?.elenchus?.examples ?? [];
  $("examples").hidden = examples.length === 0;
  $("examples").replaceChildren(make("span", { class: "hint" }, "This model reads only the notation of its tasks, such as"), ...examples.map((example) => make("button", {
    type: "button", onclick: () => { $("question").value = example; $("question").focus(); estimateSoon(); },
  }, example)));
  estimateSoon();
}

export function requestBody(recipe) {
  const wish = { recipe };
  const samples = Number.parseInt($("samples").value, 10);
  if (recipe === $("recipe").value && hasSamples(recipe) && samples > 0) wish.samples = samples;
  return {
    model: $("model").value, messages: [{ role: "user", content: $("question").value || "?" }], elenchus: wish,
  };
}

let estimateTimer;
export function estimateSoon() {
  clearTimeout(estimateTimer);
  estimateTimer = setTimeout(estimate, 250);
}

let asked = 0;
async function estimate() {
  const place = $("estimate");
  const names = chosenRecipes();
  const mine = ++asked;
  place.className = "hint";
  if (names.length === 0 || !$("model").value) { place.replaceChildren(); return; }
  const outcomes = await Promise.allSettled(names.map(async (name) => (await post("/v1/estimate", requestBody(name))).json()));
  // Something else may have been chosen meanwhile.
  if (mine !== asked) return;
  const failed = outcomes.findIndex((outcome) => outcome.status === "rejected");
  if (failed >= 0) {
    const { reason } = outcomes[failed];
    // What a missing key refuses is said beside the field for the key.
    if (reason.status === 401) { place.replaceChildren(); return; }
    place.classList.add("wrong");
    place.replaceChildren(`${names[failed]}: ${reason.message}`);
    return;
  }
  const found = outcomes.map((outcome) => outcome.value);
  const sum = (of) => found.reduce((total, one) => total + of(one), 0);
  const [calls, tokens] = [sum((one) => one.usage.calls), sum((one) => tokensOf(one.usage))];
  const price = found.every((one) => one.priced) ? `, ${money(sum((one) => one.usage.money))}` : "";
  const many = calls > MANY_CALLS || tokens > MANY_TOKENS;
  place.classList.toggle("warning", many);
  place.title = found.map((one) => `${one.recipe}: ${one.formula}`).join("\n");
  const which = found.length > 1 ? "Both together at most" : "At most";
  const much = many ? make("b", {}, "⚠ Much: ") : "";
  place.replaceChildren(much, `${which} ${count(calls, "call")}, about ${count(tokens, "token")}${price}.`);
}
