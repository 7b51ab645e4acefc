// ---- the text, shaded by how surprising each of its tokens was to a layer

const words = [...document.querySelectorAll("#text > :not(.prompt)")];
let wordSelected = 0; // where the keyboard is: the text's one tab stop

function numbersOfWords() {
  const row = byId("shading").selectedIndex;
  const [{ lens, text }] = seen();
  const through = decoding.readings.length > 1 ? ` through the ${lens} lens` : "";
  return {
    reader: `layer ${decoding.layers[row]}${through}`,
    levels: text.levels[row],
    texts: text.texts[row],
    high: text.highs[row],
  };
}

function shadeText() {
  if (words.length === 0) return;
  const { levels, texts, high } = numbersOfWords();
  byId("most-surprised").textContent = high;
  words.forEach((word, index) => {
    word.className = `s${levels[index]}`;
    word.title = `${texts[index]} bits`;
    word.lastChild.textContent = texts[index];
  });
}

function costOf(word) {
  const { reader, texts } = numbersOfWords();
  return `“${word.firstChild.textContent}”: ${texts[words.indexOf(word)]} bits to ${reader}`;
}

function showCost(word) {
  byId("cost").textContent = costOf(word);
}

function offerText() {
  if (words.length === 0) return;
  for (const id of ["shading", "cost"]) byId(id).hidden = false;
  byId("shaded-by").hidden = true;
  byId("shading").addEventListener("change", shadeText);
  words.forEach((word, index) => (word.tabIndex = index === 0 ? 0 : -1));
  byId("text").addEventListener("pointermove", ({ target }) => {
    const word = words.find((each) => each.contains(target));
    if (word) showCost(word);
  });
  byId("text").addEventListener("focusin", ({ target }) => {
    words[wordSelected].tabIndex = -1;
    wordSelected = words.indexOf(target);
    target.tabIndex = 0;
    showCost(target);
    byId("spoken").textContent = costOf(target);
  });
  byId("text").addEventListener("keydown", (event) => {
    const to = { ArrowLeft: wordSelected - 1, ArrowRight: wordSelected + 1, Home: 0, End: words.length - 1 }[event.key];
    if (to === undefined || event.altKey || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    words[Math.min(Math.max(to, 0), words.length - 1)].focus();
  });
  shadeText(); // a browser keeps the choice over a reload
}

