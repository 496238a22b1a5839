// What people think of the answers, by recipe; and rows to train on.

import { checked, get, headers } from "./api.js";
import { $, complain, interval, make, number, percentFine, say, tokensOf } from "./dom.js";

const reactions = (row) => row.love + row.up + row.down;

// The columns: what they say, and by what they are sorted.
const COLUMNS = [
  ["Recipe", (row) => row.recipe],
  ["Good", (row) => row.good ?? -1],
  ["Reactions", reactions],
  ["Love", (row) => row.love],
  ["Up", (row) => row.up],
  ["Down", (row) => row.down],
  ["Corrected", (row) => row.corrections],
  ["Answered", (row) => row.answered],
  ["Abstained", (row) => row.abstained],
  ["Failed", (row) => row.failed],
  ["Cancelled", (row) => row.cancelled],
  ["Tokens", (row) => tokensOf(row.usage)],
];

let rows = [];
// Most spoken of first.
let order = { column: 2, down: true };

function cell(row, column) {
  const [name, value] = COLUMNS[column];
  if (name === "Recipe") return make("th", { scope: "row" }, row.recipe);
  if (name !== "Good") return make("td", {}, number(value(row)));
  if (typeof row.good !== "number") return make("td", {}, "—");
  const [low, high] = row.good_interval;
  return make("td", {}, interval(low, high, row.good), ` ${percentFine(row.good)}`,
    make("div", { class: "hint" }, `${percentFine(low).slice(0, -2)} to ${percentFine(high)}`));
}

export function showTotals() {
  const [, value] = COLUMNS[order.column];
  const compare = (left, right) => {
    const [one, other] = [value(left), value(right)];
    const ascending = typeof one === "string" ? one.localeCompare(other) : one - other;
    return (order.down ? -ascending : ascending) || right.traces - left.traces;
  };
  const quiet = rows.filter((row) => reactions(row) + row.corrections === 0);
  $("totals-quiet").hidden = quiet.length === 0;
  $("totals-quiet-text").textContent = `Show also the ${number(quiet.length)} of which nobody has said anything`;
  const shown = $("totals-all").checked ? rows : rows.filter((row) => !quiet.includes(row));
  $("totals").tBodies[0].replaceChildren(...[...shown].sort(compare).map((row) => make("tr", {}, ...COLUMNS.map((_, column) => cell(row, column)))));
  $("totals-none").hidden = shown.length > 0;
  $("totals").tHead.replaceChildren(make("tr", {}, ...COLUMNS.map(([name], column) => {
    const here = order.column === column;
    const sort = () => {
      order = { column, down: here ? !order.down : column > 0 };
      showTotals();
      $("totals").tHead.rows[0].cells[column].firstChild.focus();
    };
    return make("th", { scope: "col", "aria-sort": here ? (order.down ? "descending" : "ascending") : "none" },
      make("button", { type: "button", class: "sort", onclick: sort }, name, make("span", { "aria-hidden": "true" }, here ? (order.down ? " ▾" : " ▴") : "")));
  })));
}

export async function totals() {
  try {
    rows = (await get("/v1/totals")).data;
    showTotals();
    say("");
  } catch (error) {
    complain(error);
  }
}



export async function download(event) {
  event.preventDefault();
  const format = event.currentTarget.dataset.export;
  try {
    const response = await checked(await fetch(`/v1/export?format=${format}`, { headers: headers() }));
    const link = make("a", { href: URL.createObjectURL(await response.blob()), download: `${format}.jsonl` });
    link.click();
    URL.revokeObjectURL(link.href);
    say(`${format}.jsonl saved.`);
  } catch (error) {
    complain(error);
  }
}
