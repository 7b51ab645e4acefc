// ---- why the text's token at a step and not its runner-up, part by part

function showWhy(step) {
  const why = decoding.why.steps[step];
  if (!why) return;
  const [token, against] = [why.token, why.against].map((place) => element("bdi", decoding.names[place], "token"));
  byId("why-step").replaceChildren(`Step ${step + 1}: the logit of `, token, " less that of ", against, `, part by part: ${why.difference}.`);
  byId("parts").replaceChildren(...decoding.why.parts.map((name, part) => partOf(why, name, part)));
  byId("why-sum").textContent = why.sum;
  byId("why").hidden = false;
}

function partOf(why, name, part) {
  const line = element("div", "", why.largest.includes(part) ? "largest" : "");
  const [track, bar] = [element("span", "", "track"), element("span", "", why.bars[part] < 0 ? "bar against" : "bar")];
  bar.style.width = `${Math.abs(why.bars[part]) / 2}%`;
  track.append(bar);
  line.append(element("dt", name), element("dd", why.logits[part]), track);
  return line;
}

