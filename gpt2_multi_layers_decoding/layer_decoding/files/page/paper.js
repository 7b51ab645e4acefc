// ---- paper: columns that fit side by side, one panel under another

const PAPER_WIDTH = 660 / 0.85; // CSS pixels: A4 or Letter upright, less the margins; the stylesheet prints tables at 85%

function panelStarts() {
  const [label, ...columns] = [...table.rows[0].cells].map((cell) => cell.offsetWidth);
  const starts = [];
  let room = 0;
  columns.forEach((width, step) => {
    room -= width;
    if (room < 0) {
      starts.push(step);
      room = PAPER_WIDTH - label - width;
    }
  });
  return starts;
}

function panel(start, end) {
  const copy = table.cloneNode(true);
  copy.removeAttribute("id");
  for (const row of copy.rows) {
    [...row.cells].slice(1).forEach((cell, step) => (step < start || step >= end) && cell.remove());
  }
  return copy;
}

addEventListener("beforeprint", () => {
  const starts = panelStarts();
  const panels = element("div", "", "panels");
  panels.append(...starts.map((start, index) => panel(start, starts[index + 1] ?? Infinity)));
  byId("scroller").after(panels);
  document.body.classList.add("in-panels");
});

addEventListener("afterprint", () => {
  document.querySelector(".panels")?.remove();
  document.body.classList.remove("in-panels");
});

