// A result as people read it: place, section, score, the best lines with matches, and what matched what.
// Positions from the server count code points, so texts are handled as arrays of them.

const CONTEXT = 2; // lines before and behind the best ones
const FEW = 12; // a passage of so many lines is shown whole
const PROSE = ["", "text", "html"]; // in a proportional font; Markdown has tables and code
const STAGES = { vectors: "vectors", bm25: "BM25", fused: "fused", rerank: "rerank", ranked: "with signals" };

export function element(tag, properties = {}, ...children) {
  const { dataset = {}, attributes = {}, ...rest } = properties;
  const node = Object.assign(document.createElement(tag), rest);
  Object.assign(node.dataset, dataset);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

export function renderResult(result, query, best) {
  const characters = Array.from(result.text || result.title);
  const matches = (result.explanation ?? []).filter((match) => match.query_span && match.score > 0);
  const card = element("article", {
    className: "result",
    tabIndex: 0,
    attributes: { "aria-label": `Result ${result.rank}: ${placeOf(result)}` },
    dataset: { place: placeOf(result), id: result.document_id },
  });
  const passage = passageOf(result, characters, matches);
  card.append(headerOf(result, best), passage.node);
  card.append(footerOf(result, query, matches, passage));
  linkMatches(card);
  return card;
}

export function placeOf(result) {
  return `${result.document_id}:${(result.best_lines ?? result.lines)[0]}`;
}

function headerOf(result, best) {
  const [directory, name] = splitPath(result.document_id);
  const line = (result.best_lines ?? result.lines)[0];
  const place = element(
    "button",
    { type: "button", className: "place", title: "Copy the place", dataset: { copy: placeOf(result) } },
    element("span", { className: "directory", textContent: directory }),
    element("span", { className: "name", textContent: name }),
    element("span", { className: "line-of", textContent: `:${line}` }),
  );
  const share = best > 0 ? Math.max(0, Math.min(1, result.score / best)) : 0;
  const meter = element("span", { className: "meter", attributes: { "aria-hidden": "true" } }, element("span"));
  meter.firstChild.style.width = `${Math.round(share * 100)}%`;
  const section = result.section && result.section !== result.title ? result.section : "";
  return element(
    "header",
    {},
    element("span", { className: "rank", textContent: result.rank }),
    element("h3", {}, place),
    section ? element("span", { className: "section", textContent: section, title: section }) : null,
    element(
      "span",
      { className: "score", title: scoresOf(result) },
      meter,
      element("span", { className: "visually-hidden", textContent: "score " }),
      result.score.toFixed(2),
    ),
  );
}

function splitPath(id) {
  const cut = id.lastIndexOf("/") + 1;
  return [id.slice(0, cut), id.slice(cut)];
}

function scoresOf(result) {
  return Object.entries(result.scores)
    .map(([name, score]) => (STAGES[name] ? `${STAGES[name]} ${score.toFixed(2)}` : `${name} ${score < 0 ? "" : "+"}${score.toFixed(2)}`))
    .join("  ·  ");
}

// The passage, line by line; lines away from the best ones fold.
function passageOf(result, characters, matches) {
  const heaviest = Math.max(...(result.highlights ?? []).map(([, , weight]) => weight), 0);
  const [bestStart, bestEnd] = result.best_span ?? [0, 0];
  const lines = [];
  let start = 0;
  for (const line of characters.join("").split("\n")) {
    const end = start + Array.from(line).length;
    const isBest = start <= bestEnd && end >= bestStart && bestEnd > 0 && line.trim() !== "";
    lines.push({ number: result.lines[0] + lines.length, start, end, isBest });
    start = end + 1;
  }
  const firsts = lines.findIndex((line) => line.isBest);
  const lasts = lines.findLastIndex((line) => line.isBest);
  const isProse = PROSE.includes(result.metadata.lang ?? "");
  const node = element("div", { className: isProse ? "passage prose" : "passage" });
  let folded = 0;
  for (const [at, line] of lines.entries()) {
    const isNear = lines.length <= FEW || firsts < 0 ? at < FEW : at >= firsts - CONTEXT && at <= lasts + CONTEXT;
    folded += !isNear;
    node.append(
      element(
        "div",
        { className: `line${line.isBest ? " best" : ""}${isNear ? "" : " far"}` },
        element("span", { className: "number", textContent: line.number, attributes: { "aria-hidden": "true" } }),
        element("span", { className: "code" }, ...parts(characters, line, [bestStart, bestEnd], (part) => pieces(characters, part, result.highlights ?? [], { heaviest, matches }))),
      ),
    );
  }
  return { node, folded };
}

// What of a line is before, within and after the best characters; long lines are best in part.
function parts(characters, line, [bestStart, bestEnd], write) {
  const from = Math.min(Math.max(bestStart, line.start), line.end);
  const to = Math.min(Math.max(bestEnd, line.start), line.end);
  if (!line.isBest || from === to) return write(line);
  const outside = (start, end) => (start < end ? write({ start, end }) : []);
  return [...outside(line.start, from), element("span", { className: "told" }, ...write({ start: from, end: to })), ...outside(to, line.end)];
}

// A line as text and marks; a mark knows the matches that stand in it.
function pieces(characters, line, highlights, { heaviest, matches }) {
  const best = Math.max(...matches.map((match) => match.score));
  const nodes = [];
  let at = line.start;
  for (const [start, end, weight] of highlights.toSorted((one, other) => one[0] - other[0])) {
    if (end <= at || start >= line.end) continue;
    const from = Math.max(start, at);
    if (from > at) nodes.push(characters.slice(at, from).join(""));
    const to = Math.min(end, line.end);
    const inside = matches.flatMap((match, number) =>
      match.text_span && match.text_span[0] < end && start < match.text_span[1] ? [number] : [],
    );
    const mark = element("mark", { textContent: characters.slice(from, to).join(""), dataset: { matches: inside.join(" ") } });
    // The strongest match in a word counts: many weak ones, of "how" and "the", make no strong one.
    const strength = inside.length ? Math.max(...inside.map((number) => matches[number].score / best)) : weight / heaviest;
    mark.style.setProperty("--weight", Math.max(0.1, strength ** 3));
    if (inside.length) mark.title = inside.map((number) => `${matches[number].query_token.trim()} ${matches[number].score.toFixed(2)}`).join(", ");
    nodes.push(mark);
    at = to;
  }
  if (at < line.end) nodes.push(characters.slice(at, line.end).join(""));
  return nodes.length ? nodes : ["\u200b"];
}

function footerOf(result, query, matches, passage) {
  const footer = element("footer");
  if (matches.length) footer.append(tokensOf(query, matches));
  const notes = element("div", { className: "notes" });
  for (const name of ["lang", "kind"]) {
    if (result.metadata[name]) notes.append(filterButton(name, result.metadata[name]));
  }
  notes.append(element("span", { className: "scores", textContent: scoresOf(result) }));
  if (result.duplicates.length) notes.append(element("span", { textContent: `also in ${result.duplicates.slice(0, 3).join(", ")}` }));
  if (result.more) notes.append(element("span", { textContent: `${result.more} more of it` }));
  if (passage.folded) {
    const text = `${passage.folded} more ${passage.folded === 1 ? "line" : "lines"}`;
    notes.append(
      element("button", { type: "button", className: "unfold", textContent: text, attributes: { "aria-expanded": "false" }, dataset: { fold: text } }),
    );
  }
  footer.append(notes);
  return footer;
}

function filterButton(name, value) {
  return element("button", {
    type: "button",
    className: "tag",
    textContent: value,
    title: `Only ${name}=${value}`,
    dataset: { filter: `${name}=${String(value).includes(",") || /[="<>]/.test(value) ? `"${value}"` : value}` },
  });
}

// The query token by token: the stronger a match, the deeper its colour.
function tokensOf(query, matches) {
  const characters = Array.from(query);
  const row = element("div", { className: "tokens", attributes: { role: "group", "aria-label": "What each word of the query matched" } });
  const words = wordsOf(characters, matches).filter((word) => /[\p{L}\p{N}]/u.test(word.text));
  const most = Math.max(...words.map((word) => word.score));
  for (const word of words) {
    const chip = element(
      "button",
      {
        type: "button",
        className: "token",
        dataset: { matches: word.numbers.join(" ") },
        attributes: { "aria-label": `${word.text}: ${word.score.toFixed(2)}, ${[...word.where].join(" and ")}` },
      },
      element("span", { textContent: word.text }),
      element("small", { textContent: word.score.toFixed(2) }),
    );
    chip.style.setProperty("--weight", Math.max(0.06, (word.score / most) ** 3));
    row.append(chip);
  }
  return row;
}

// The words of the query, which tokens are parts of: matches of one token add up, those of parts are averaged.
function wordsOf(characters, matches) {
  const tokens = new Map();
  for (const [number, match] of matches.entries()) {
    const [start, end] = match.query_span;
    const token = tokens.get(start) ?? { start, end, score: 0, numbers: [], where: new Set() };
    token.score += match.score;
    token.numbers.push(number);
    token.where.add(match.text_span ? "in the text" : "in the title or section");
    tokens.set(start, token);
  }
  const isLetter = (at) => /[\p{L}\p{N}]/u.test(characters[at] ?? "");
  const words = [];
  for (const token of [...tokens.values()].sort((one, other) => one.start - other.start)) {
    const last = words.at(-1);
    if (last && last.end === token.start && isLetter(token.start) && isLetter(token.start - 1)) {
      last.score = (last.score * last.parts + token.score) / (last.parts + 1);
      last.parts += 1;
      last.end = token.end;
      last.numbers.push(...token.numbers);
      token.where.forEach((place) => last.where.add(place));
    } else {
      words.push({ ...token, parts: 1 });
    }
  }
  return words.map((word) => ({ ...word, text: characters.slice(word.start, word.end).join("") }));
}

// Pointing at one end of a match lights up the other.
function linkMatches(card) {
  const ends = [...card.querySelectorAll("[data-matches]")];
  const numbers = (node) => new Set(node.dataset.matches.split(" ").filter(Boolean));
  const light = (node) => {
    const mine = numbers(node);
    for (const other of ends) other.classList.toggle("lit", mine.size > 0 && [...numbers(other)].some((number) => mine.has(number)));
    card.classList.add("pointing");
  };
  const dim = () => {
    for (const end of ends) end.classList.remove("lit");
    card.classList.remove("pointing");
  };
  for (const end of ends) {
    end.addEventListener("pointerenter", () => light(end));
    end.addEventListener("pointerleave", dim);
    end.addEventListener("focus", () => light(end));
    end.addEventListener("blur", dim);
    end.addEventListener("click", () => {
      const text = card.querySelector("mark.lit");
      text?.closest(".far") && unfold(card, true);
      text?.scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
  }
}

export function unfold(card, open = !card.classList.contains("open")) {
  card.classList.toggle("open", open);
  const button = card.querySelector("[data-fold]");
  if (!button) return;
  button.setAttribute("aria-expanded", open);
  button.textContent = open ? "best lines only" : button.dataset.fold;
}
