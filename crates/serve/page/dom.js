// What every part of the page uses. Everything that a model or a person wrote is put into the page as text, never as
// markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
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
export const newId = (name) => `${name}-${++ids}`;

export function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

// An error where there is no better place for it. What a missing key refuses is said beside the field for the key.
export function complain(error) {
  if (error.status === 401) say("");
  else say(error.message, true);
}

// Ctrl or Command with Enter sends what is written in a field.
export function sendsOn(field, send) {
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); send(); }
  });
}

// Remembered choices; a browser that keeps nothing has the first one each time.
export const remember = (name, value) => { try { localStorage.setItem(name, value); } catch { /* It is asked again. */ } };
export const remembered = (name) => { try { return localStorage.getItem(name); } catch { return null; } };

const NUMBERS = new Intl.NumberFormat("en");
const SHARES = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
export const number = (value) => NUMBERS.format(value);
export const count = (value, word) => `${number(value)} ${word}${value === 1 ? "" : "s"}`;
export const percent = (share) => `${Math.round(100 * share)} %`;
export const percentFine = (share) => `${SHARES.format(100 * share)} %`;
export const tokensOf = (usage) => usage.prompt_tokens + usage.completion_tokens;
// The table of prices has one currency and does not name it.
export const money = (amount) => `${amount.toPrecision(3)} in the currency of the prices`;

export function time(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

// A sentence: summaries of recipes are written by many hands.
export const sentence = (text) => {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
};

// What is wrong, and what to try, apart.
export const parted = (message) => message.split(/\n\s*hint: /);

// A confidence always says whether it can be read as a probability.
export const sure = ({ value, kind, raw }) =>
  kind === "calibrated" ? `${percent(value)} (calibrated${typeof raw === "number" ? `, raw ${percent(raw)}` : ""})` : `${percent(value)} (raw)`;

// A share with its interval on a line from 0 to 1.
export function interval(low, high, at) {
  const band = make("i");
  band.style.left = `${100 * low}%`;
  band.style.width = `${100 * (high - low)}%`;
  const point = make("b");
  point.style.left = `${100 * at}%`;
  return make("span", { class: "interval", "aria-hidden": "true" }, band, point);
}
