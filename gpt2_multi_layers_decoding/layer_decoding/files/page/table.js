"use strict";
// The table comes alive: what lies behind a cell, and arrow keys. The files beside this one are more of the same script.
// Text enters the page through textContent alone, so that no token can become markup.

const decoding = JSON.parse(document.getElementById("data").textContent);
const table = document.getElementById("layers");
const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].slice(1)); // [R][T]
const byId = (id) => document.getElementById(id);
let selected = { row: 0, step: 0 }; // where the keyboard is: the table's one tab stop
let lensShown = "0"; // the number of a reading, or "all"
let measureShown = Object.keys(decoding.readings[0].measures)[0];
const seen = () => (lensShown === "all" ? decoding.readings : [decoding.readings[lensShown]]);

// ---- one cell, seen closely

function positionOf(cell) {
  const row = rows.findIndex((cells) => cells.includes(cell));
  return row < 0 ? null : { row, step: rows[row].indexOf(cell) };
}

function describe({ row, step }) {
  const through = seen();
  const [first] = through;
  return {
    place: `Layer ${decoding.layers[row]}, token ${step + 1}`,
    token: nameIn(first, row, step),
    agreement: through.length > 1 ? comparisonOf(through, row, step) : agreementOf(first, row, step),
    numbers: Object.entries(first.measures).map(([key, { label }]) => [
      label,
      through.map(({ measures }) => measures[key].texts[row][step]).join(" · "),
    ]),
    candidates: through.map(({ lens, candidates }) => [
      lens,
      (candidates[row][step] ?? []).map(([index, share]) => [decoding.names[index], share]),
    ]),
  };
}

function nameIn({ tokens }, row, step) {
  return decoding.names[tokens[row][step]];
}

function agreementOf(reading, row, step) {
  const differs = reading.differs[row][step] === "1";
  const last = decoding.layers.length - 1;
  if (row === last) return "what the model wrote";
  if (decoding.context === "own") return differs ? `not in layer ${decoding.last}'s text` : `in layer ${decoding.last}'s text too`;
  if (!differs) return `layer ${decoding.last}'s token too`;
  return `differs: layer ${decoding.last} says “${nameIn(reading, last, step)}”`;
}

function comparisonOf(through, row, step) {
  const lenses = through.map(({ lens }) => lens).join(" and ");
  if (decoding.parted.cells[row][step] === "0") return `the same through ${lenses}`;
  return through.map((reading) => `${reading.lens}: “${nameIn(reading, row, step)}”`).join(", ");
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
  byId("candidates").hidden = candidates.every(([, likeliest]) => likeliest.length === 0);
  byId("candidates").tBodies[0].replaceChildren(...candidates.flatMap(candidateRows));
  showWhy(position.step);
}

function candidateRows([lens, likeliest]) {
  if (lensShown !== "all") return likeliest.map(candidateRow);
  const [heading, name] = [element("tr"), element("th", lens)];
  name.colSpan = 2;
  name.scope = "rowgroup";
  heading.append(name);
  return [heading, ...likeliest.map(candidateRow)];
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
  const endings = candidates.map(([lens, likeliest]) => {
    const through = lensShown === "all" ? ` through ${lens}` : "";
    return likeliest.length ? ` Likeliest${through}: ${likeliest.map(([name, share]) => `“${name}” ${share}`).join(", ")}.` : "";
  });
  byId("spoken").textContent = `${[`${place}: “${token}”`, agreement, ...measures].join(", ")}.${endings.join("")}`;
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

