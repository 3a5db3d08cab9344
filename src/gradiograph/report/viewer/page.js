"use strict";

const STEP = 200;
const TITLES = {
  reconstruction: "Reconstruction", original: "Original", difference: "Difference",
  control: "Control: other patients' update", stock: "Control: stock film",
};
const find = (id) => document.getElementById(id);
let data, shown = STEP, chosen = null;

// Every text comes in as text, never as markup.
function fill(select, values, all) {
  select.replaceChildren();
  for (const [value, title] of [...(all ? [["", "all"]] : []), ...values]) {
    const option = document.createElement("option");
    option.value = value;
    option.textContent = title;
    select.append(option);
  }
}

const told = (metric, value) => {
  const { factor, unit } = data.metrics[metric];
  return `${Number((factor * value).toPrecision(3))}${unit}`;
};
const setting = (entry) => `${entry.task}, ${entry.protocol}`;
const name = (defence) => (defence === "none" ? "no protection" : defence);

function matching() {
  const wanted = { defence: find("defence").value, attack: find("attack").value };
  const place = find("setting").value, word = find("search").value.trim();
  const metric = find("metric").value, sign = data.metrics[metric].larger ? -1 : 1;
  const last = sign > 0 ? Infinity : -Infinity;
  return data.entries
    .filter((e) => (!wanted.defence || e.defence === wanted.defence) && (!wanted.attack || e.attack === wanted.attack)
      && (!place || setting(e) === place) && e.record.includes(word))
    .sort((a, b) => sign * ((a.scores[metric] ?? last) - (b.scores[metric] ?? last)) || (a.record < b.record ? -1 : 1));
}

function list() {
  const found = matching(), metric = find("metric").value;
  find("count").textContent = `${found.length} reconstructions; ${Math.min(shown, found.length)} listed`;
  find("list").replaceChildren(...found.slice(0, shown).map((entry) => {
    const item = document.createElement("li"), button = document.createElement("button"), score = document.createElement("b");
    button.type = "button";
    button.textContent = `${entry.record} · ${name(entry.defence)} · ${entry.attack} · seed ${entry.seed}`;
    score.textContent = metric in entry.scores ? told(metric, entry.scores[metric]) : "";
    button.prepend(score);
    button.setAttribute("aria-current", String(entry === chosen));
    button.addEventListener("click", () => { choose(entry); for (const other of find("list").querySelectorAll("button")) other.setAttribute("aria-current", String(other === button)); });
    item.append(button);
    return item;
  }));
  find("more").hidden = found.length <= shown;
}

function choose(entry) {
  chosen = entry;
  find("film-title").textContent = `Film ${entry.record}, batch ${entry.batch}: ${name(entry.defence)}, ${entry.attack}`;
  find("compare").hidden = false;
  find("scores").replaceChildren(...Object.entries(entry.scores).flatMap(([metric, value]) => {
    const term = document.createElement("dt"), definition = document.createElement("dd");
    term.textContent = data.metrics[metric].title;
    definition.textContent = told(metric, value);
    return [term, definition];
  }));
  show();
}

function show() {
  for (const [side, image] of [["left", "above"], ["right", "below"]]) {
    const kind = find(side).value, picture = find(image);
    picture.alt = TITLES[kind];
    picture.src = ["picture", chosen.cell, chosen.record, kind].map(encodeURIComponent).join("/");
  }
  slide();
}

function slide() {
  find("above").style.clipPath = `inset(0 ${100 - find("slider").value}% 0 0)`;
}

async function start() {
  data = await (await fetch("films.json")).json();
  find("name").textContent = data.name;
  const unique = (values) => [...new Set(values)].map((value) => [value, name(value)]);
  fill(find("defence"), unique(data.entries.map((e) => e.defence)), true);
  fill(find("attack"), unique(data.entries.map((e) => e.attack)), true);
  fill(find("setting"), unique(data.entries.map(setting)), true);
  fill(find("metric"), Object.entries(data.metrics).map(([metric, { title }]) => [metric, title]), false);
  const kinds = Object.entries(TITLES).filter(([kind]) => data.originals || (kind !== "original" && kind !== "difference"));
  fill(find("left"), kinds, false);
  fill(find("right"), kinds, false);
  find("right").value = data.originals ? "original" : "control";
  find("note").textContent = data.originals ? "" : "Originals are not shown: the audit file does not allow them (show_originals).";
  for (const id of ["defence", "attack", "setting", "metric", "search"]) find(id).addEventListener("input", () => { shown = STEP; list(); });
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  find("more").addEventListener("click", () => { shown += STEP; list(); });
  for (const id of ["left", "right"]) find(id).addEventListener("input", show);
  find("slider").addEventListener("input", slide);
  list();
  if (data.entries.length) choose(matching()[0]);
  list();
}

start();
