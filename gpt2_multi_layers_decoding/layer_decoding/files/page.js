"use strict";
// The table comes alive: what lies behind a cell, another measure, arrow keys, panels for paper.
// Text enters the page through textContent alone, so that no token can become markup.

const decoding = JSON.parse(document.getElementById("data").textContent);
const table = document.getElementById("layers");
const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].slice(1)); // [R][T]
const byId = (id) => document.getElementById(id);
let selected = { row: 0, step: 0 }; // where the keyboard is: the table's one tab stop
let measureShown = Object.keys(decoding.measures)[0];

// ---- one cell, seen closely

function positionOf(cell) {
  const row = rows.findIndex((cells) => cells.includes(cell));
  return row < 0 ? null : { row, step: rows[row].indexOf(cell) };
}

function describe({ row, step }) {
  const measures = Object.values(decoding.measures);
  return {
    place: `Layer ${decoding.layers[row]}, token ${step + 1}`,
    token: decoding.names[decoding.tokens[row][step]],
    agreement: agreementOf(row, step),
    numbers: measures.map((measure) => [measure.label, measure.texts[row][step]]),
    candidates: (decoding.candidates[row][step] ?? []).map(([index, share]) => [decoding.names[index], share]),
  };
}

function agreementOf(row, step) {
  const differs = rows[row][step].querySelector("u") !== null;
  const last = decoding.layers.length - 1;
  if (row === last) return "what the model wrote";
  if (decoding.context === "own") return differs ? `not in layer ${decoding.last}'s text` : `in layer ${decoding.last}'s text too`;
  if (!differs) return `layer ${decoding.last}'s token too`;
  return `differs: layer ${decoding.last} says “${decoding.names[decoding.tokens[last][step]]}”`;
}

function show(position) {
  const { place, token, agreement, numbers, candidates } = describe(position);
  table.querySelector(".shown")?.classList.remove("shown");
  rows[position.row][position.step].classList.add("shown");
  byId("place").textContent = place;
  byId("token").textContent = token;
  byId("agreement").textContent = agreement;
  byId("numbers").replaceChildren(...numbers.flatMap(([label, text]) => [element("dt", label), element("dd", text)]));
  byId("numbers").hidden = numbers.length === 0;
  byId("candidates").hidden = candidates.length === 0;
  byId("candidates").tBodies[0].replaceChildren(...candidates.map(candidateRow));
  showWhy(position.step);
}

function candidateRow([token, share]) {
  const row = element("tr");
  const [name, number] = [element("td"), element("td", share)];
  const bar = element("span", "", "bar");
  bar.style.width = share.replace(/[<>]/, "");
  name.append(element("bdi", token, "token"), bar);
  row.append(name, number);
  return row;
}

function speak(position) {
  const { place, token, agreement, numbers, candidates } = describe(position);
  const measures = numbers.map(([label, text]) => `${label} ${text}`);
  const likeliest = candidates.map(([name, share]) => `“${name}” ${share}`);
  const ending = likeliest.length ? ` Likeliest: ${likeliest.join(", ")}.` : "";
  byId("spoken").textContent = `${[`${place}: “${token}”`, agreement, ...measures].join(", ")}.${ending}`;
}

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

// ---- keyboard and pointer

function select(position) {
  rows[selected.row][selected.step].tabIndex = -1;
  selected = position;
  rows[selected.row][selected.step].tabIndex = 0;
}

function moved({ row, step }, key, toCorner) {
  const lastRow = rows.length - 1;
  const to = {
    ArrowLeft: [row, step - 1],
    ArrowRight: [row, step + 1],
    ArrowUp: [row - 1, step],
    ArrowDown: [row + 1, step],
    Home: [toCorner ? 0 : row, 0],
    End: [toCorner ? lastRow : row, Infinity],
  }[key];
  if (!to) return null;
  const newRow = Math.min(Math.max(to[0], 0), lastRow);
  return { row: newRow, step: Math.min(Math.max(to[1], 0), rows[newRow].length - 1) }; // rows may differ in length
}

function listen() {
  table.addEventListener("focusin", (event) => {
    const position = positionOf(event.target);
    if (!position) return;
    select(position);
    show(position);
    speak(position);
  });
  table.addEventListener("keydown", (event) => {
    const position = event.altKey || event.metaKey ? null : moved(selected, event.key, event.ctrlKey);
    if (!position) return;
    event.preventDefault();
    const cell = rows[position.row][position.step];
    cell.focus({ preventScroll: true }); // its own scrolling leaves a cell that shows by a pixel where it is
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  // Not pointerover: a table that scrolls by keyboard under a resting pointer must not change what is shown.
  table.addEventListener("pointermove", (event) => {
    const cell = event.target.closest("td:not(.shown)");
    const position = cell && positionOf(cell);
    if (position) show(position);
  });
  table.addEventListener("pointerleave", () => show(selected));
}

function comeAlive() {
  byId("scroller").removeAttribute("tabindex"); // its cells take the focus from here on
  table.setAttribute("role", "grid");
  table.setAttribute("aria-readonly", "true");
  for (const cell of rows.flat()) cell.tabIndex = -1;
  listen();
  select(selected);
  show(selected);
  for (const id of ["details", "keys"]) byId(id).hidden = false;
}

// ---- the switch

function switchTo(name) {
  const { meaning, low, high, texts, levels } = decoding.measures[name];
  for (const [id, text] of Object.entries({ meaning, low, high })) byId(id).textContent = text;
  rows.forEach((cells, row) =>
    cells.forEach((cell, step) => {
      cell.classList.replace(`s${decoding.measures[measureShown].levels[row][step]}`, `s${levels[row][step]}`);
      cell.lastChild.textContent = texts[row][step];
    }),
  );
  measureShown = name;
}

function offerSwitch() {
  const form = byId("switch");
  if (!form) return;
  form.hidden = false;
  form.addEventListener("change", (event) => switchTo(event.target.value));
  const checked = form.querySelector(":checked"); // a browser keeps the choice over a reload
  if (checked.value !== measureShown) switchTo(checked.value);
}

