// ---- the switches: another measure, another lens, or where the lenses differ

function paint() {
  const isComparing = lensShown === "all";
  const [first, ...others] = seen();
  const measure = first.measures[measureShown];
  rows.forEach((cells, row) =>
    cells.forEach((cell, step) => {
      const isParted = isComparing && decoding.parted.cells[row][step] === "1";
      const below = element("small", isComparing ? "\u00a0" : (measure?.texts[row][step] ?? ""));
      if (isParted) below.replaceChildren(...others.flatMap((reading) => [...tokenIn(reading, row, step), element("br")]));
      cell.replaceChildren(...tokenIn(first, row, step), ...(measure ? [below] : []));
      cell.classList.remove(...[...cell.classList].filter((name) => name !== "shown"));
      if (isParted) cell.classList.add("parted");
      if (!isComparing && measure) cell.classList.add(`s${measure.levels[row][step]}`);
      if (!isComparing && first.settlesIn[step] === row) cell.classList.add("settles");
    }),
  );
  const settled = table.tFoot ? [...table.tFoot.rows[0].cells].slice(1) : [];
  settled.forEach((cell, step) => (cell.textContent = seen().map(({ settles }) => settles[step]).join(" · ")));
}

function tokenIn(reading, row, step) {
  const name = nameIn(reading, row, step);
  const word = name.replace(/^ +/, "");
  const space = name.slice(0, name.length - word.length);
  return [space, reading.differs[row][step] === "1" ? element("u", word) : word];
}

function saySwitched() {
  const isComparing = lensShown === "all";
  for (const notes of document.querySelectorAll("[data-notes]")) notes.hidden = notes.dataset.notes !== lensShown;
  for (const group of document.querySelectorAll("[data-rows]")) group.hidden = !isComparing && group.dataset.rows !== lensShown;
  if (byId("settling")) byId("settling").hidden = isComparing;
  if (!byId("switch")) return;
  byId("switch").disabled = isComparing;
  byId("ends").hidden = isComparing;
  const { meaning, low, high } = seen()[0].measures[measureShown];
  for (const [id, text] of Object.entries({ meaning, low, high })) byId(id).textContent = text;
  if (isComparing) byId("meaning").textContent = decoding.parted.meaning;
}

function switched() {
  paint();
  shadeText();
  saySwitched();
  show(selected);
}

function offerSwitch(id, take) {
  const form = byId(id);
  if (!form) return;
  form.hidden = false;
  form.addEventListener("change", (event) => {
    take(event.target.value);
    switched();
  });
  take(form.querySelector(":checked").value); // a browser keeps the choice over a reload
}

function offerSwitches() {
  offerSwitch("switch", (measure) => (measureShown = measure));
  offerSwitch("lenses", (lens) => (lensShown = lens));
  if (lensShown !== "0" || measureShown !== Object.keys(seen()[0].measures)[0]) switched();
}

