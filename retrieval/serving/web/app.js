// The page: what is asked for, who answers, where the keyboard goes.

import { ApiError, addDocument, listIndexes, search, setKey } from "./api.js";
import { element, placeOf, renderResult, unfold } from "./results.js";

const byId = (id) => document.getElementById(id);
const MODES = ["hybrid", "vectors", "bm25"];
const NAMES = { hybrid: "Hybrid", vectors: "Vectors", bm25: "BM25" };

let indexes = [];
let filters = [];
let running = null;

// What is asked for stands in the address, so that a page can be shared and read again.

function state() {
  return {
    index: byId("index").value,
    q: byId("query").value.trim(),
    mode: document.querySelector("input[name=mode]:checked").value,
    compare: byId("compare").value,
    content: byId("content").value,
    k: Number(byId("count").value),
    group: byId("group").checked,
    rerank: byId("rerank").checked,
    where: filters,
  };
}

function writeAddress(now) {
  const parameters = new URLSearchParams();
  if (indexes.length > 1) parameters.set("index", now.index);
  if (now.q) parameters.set("q", now.q);
  if (now.mode !== "hybrid") parameters.set("mode", now.mode);
  if (now.compare) parameters.set("compare", now.compare);
  if (now.content !== "all") parameters.set("content", now.content);
  if (now.k !== 10) parameters.set("k", now.k);
  if (now.group) parameters.set("group", "1");
  if (now.rerank) parameters.set("rerank", "1");
  for (const condition of now.where) parameters.append("where", condition);
  const text = parameters.toString();
  const address = text ? `/?${text}` : "/";
  if (address !== location.pathname + location.search) history.pushState(null, "", address);
}

function readAddress() {
  const parameters = new URLSearchParams(location.search);
  const choose = (select, value) => {
    if ([...select.options].some((option) => option.value === value)) select.value = value;
  };
  byId("query").value = parameters.get("q") ?? "";
  choose(byId("index"), parameters.get("index") ?? indexes[0]?.name);
  choose(byId("compare"), parameters.get("compare") ?? "");
  choose(byId("content"), parameters.get("content") ?? "all");
  choose(byId("count"), parameters.get("k") ?? "10");
  chooseMode(MODES.includes(parameters.get("mode")) ? parameters.get("mode") : "hybrid");
  byId("group").checked = parameters.has("group");
  byId("rerank").checked = parameters.has("rerank");
  filters = parameters.getAll("where");
  showFilters();
  offerModes();
}

// An index without a model is ranked by BM25 alone.
function offerModes() {
  const isRankedTwice = Boolean(indexes.find((one) => one.name === byId("index").value)?.model);
  const wasRankedTwice = !byId("compare").disabled;
  for (const control of document.querySelectorAll("input[name=mode]:not([value=bm25]), #compare")) control.disabled = !isRankedTwice;
  if (isRankedTwice && wasRankedTwice) return;
  chooseMode(isRankedTwice ? "hybrid" : "bm25");
  byId("compare").value = "";
}

function chooseMode(mode) {
  document.querySelector(`input[name=mode][value=${mode}]`).checked = true;
}

// Searching.

async function run({ keepAddress = false } = {}) {
  const now = state();
  if (!keepAddress) writeAddress(now);
  running?.abort();
  document.title = now.q ? `${now.q} · flatcoat` : "flatcoat";
  if (!now.q) return showStart();
  const controller = (running = new AbortController());
  const modes = now.compare && now.compare !== now.mode ? [now.mode, now.compare] : [now.mode];
  byId("results").setAttribute("aria-busy", "true");
  say("Searching …");
  try {
    const answers = await Promise.all(modes.map((mode) => search(now.index, question(now, mode), controller.signal)));
    showAnswers(answers, modes);
  } catch (error) {
    if (error.name === "AbortError") return;
    fail(error);
  } finally {
    if (running === controller) byId("results").removeAttribute("aria-busy");
  }
}

function question(now, mode) {
  const { q, k, where, content, group, rerank } = now;
  return { query: q, k, where, content, group, rerank, mode, explain: true, best_lines: true, highlight: true };
}

function showAnswers(answers, modes) {
  const lists = answers.map((answer) => answer.results);
  const columns = answers.map((answer, side) => {
    const best = answer.results[0]?.score ?? 0;
    const column = element("section", { className: "column", attributes: { "aria-label": NAMES[modes[side]] } });
    if (answers.length > 1) column.append(element("h2", {}, NAMES[modes[side]], element("small", { textContent: ` ${answer.milliseconds.toFixed(0)} ms` })));
    for (const result of answer.results) {
      const card = renderResult(result, answer.query, best);
      if (answers.length > 1) noteOtherSide(card, result, lists[1 - side], NAMES[modes[1 - side]]);
      column.append(card);
    }
    if (!answer.results.length) column.append(nothing());
    return column;
  });
  byId("results").classList.toggle("compared", columns.length > 1);
  byId("results").replaceChildren(...columns);
  const count = lists[0].length;
  const time = answers.map((answer) => `${answer.milliseconds.toFixed(0)} ms`).join(" and ");
  say(answers.length > 1 ? `${NAMES[modes[0]]} beside ${NAMES[modes[1]]}, ${time}` : `${count} ${count === 1 ? "result" : "results"} in ${time}`);
}

function noteOtherSide(card, result, others, name) {
  const rank = others.findIndex((other) => other.document_id === result.document_id && other.lines[0] === result.lines[0]) + 1;
  card.querySelector(".rank").append(
    element("small", {
      className: rank ? "" : "alone",
      textContent: rank ? `${rank === result.rank ? "=" : rank > result.rank ? "↓" : "↑"}${rank}` : "new",
      title: rank ? `${name} has it at ${rank}` : `${name} does not have it`,
    }),
  );
}

function nothing() {
  return element("p", { className: "empty", textContent: filters.length || byId("content").value !== "all" ? "Nothing found that meets the conditions." : "Nothing found." });
}

function showStart() {
  say("");
  byId("results").classList.remove("compared");
  const index = indexes.find((one) => one.name === byId("index").value);
  const text = index ? `${index.documents.toLocaleString("en")} documents are ready to be searched.` : "";
  byId("results").replaceChildren(element("div", { className: "start" }, element("p", { textContent: text }), element("p", { className: "hint", textContent: "Words are matched by meaning and by letter; every result says which word matched which." })));
}

function say(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

function fail(error) {
  byId("results").replaceChildren();
  if (error instanceof ApiError && error.status === 401) {
    say("This server needs an API key.", true);
    byId("key").showModal();
  } else {
    say(error.message, true);
  }
}

// Filters.

function showFilters() {
  byId("filters").replaceChildren(
    ...filters.map((condition) =>
      element(
        "li",
        {},
        element("span", { textContent: condition }),
        element("button", { type: "button", textContent: "×", attributes: { "aria-label": `Remove the filter ${condition}` }, dataset: { drop: condition } }),
      ),
    ),
  );
}

function addFilter(condition) {
  if (condition && !filters.includes(condition)) filters = [...filters, condition];
  showFilters();
}

// Indexes.

async function loadIndexes() {
  indexes = await listIndexes();
  const chosen = byId("index").value;
  byId("index").replaceChildren(...indexes.map((index) => element("option", { value: index.name, textContent: index.name })));
  if (indexes.some((index) => index.name === chosen)) byId("index").value = chosen;
  showStatistics();
}

function showStatistics() {
  const index = indexes.find((one) => one.name === byId("index").value);
  if (!index) return;
  const figures = [
    ["documents", index.documents.toLocaleString("en")],
    ["passages", index.passages.toLocaleString("en")],
    ["vectors", index.vectors.toLocaleString("en")],
    ["size", `${(index.bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB`],
    ["engine", index.engine],
    ["model", index.model ?? "none"],
  ];
  offerModes();
  byId("statistics").replaceChildren(...figures.map(([name, value]) => element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }))));
}

// Adding a document.

function metadataOf(text) {
  const pairs = text.split(",").map((pair) => pair.trim()).filter(Boolean);
  return Object.fromEntries(
    pairs.map((pair) => {
      const cut = pair.indexOf("=");
      if (cut < 1) throw new Error(`Metadata are written name=value, and “${pair}” is not.`);
      const value = pair.slice(cut + 1).trim();
      return [pair.slice(0, cut).trim(), /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value];
    }),
  );
}

async function submitDocument(event) {
  event.preventDefault();
  const button = byId("add-form").querySelector("[type=submit]");
  byId("add-error").textContent = "";
  button.disabled = true;
  try {
    const added = await addDocument(byId("index").value, {
      id: byId("add-id").value,
      title: byId("add-name").value,
      text: byId("add-text").value,
      metadata: metadataOf(byId("add-metadata").value),
    });
    byId("add").close();
    byId("add-form").reset();
    await loadIndexes();
    await run();
    say(added.added ? `Added, in ${added.passages} ${added.passages === 1 ? "passage" : "passages"}.` : "The index holds it already.");
  } catch (error) {
    byId("add-error").textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

// Dark and light.

function showTheme() {
  const theme = localStorage.getItem("flatcoat-theme");
  if (theme) document.documentElement.dataset.theme = theme;
}

function switchTheme() {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  localStorage.setItem("flatcoat-theme", isDark ? "light" : "dark");
  showTheme();
}

// The keyboard.

function step(by) {
  const cards = [...document.querySelectorAll(".result")];
  const at = cards.indexOf(document.activeElement.closest(".result"));
  const next = cards[Math.max(0, Math.min(cards.length - 1, at + by))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

async function copyPlace(place) {
  await navigator.clipboard?.writeText(place);
  say(`Copied ${place}`);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && document.activeElement === byId("query")) return byId("query").blur();
  if (event.target.matches("input:not([type=radio], [type=checkbox]), textarea, select")) return;
  const card = document.activeElement.closest(".result");
  const actions = {
    "/": () => byId("query").select(),
    j: () => step(1),
    k: () => step(-1),
    a: () => byId("add").showModal(),
    "?": () => byId("help").showModal(),
    c: () => card && copyPlace(card.dataset.place),
  };
  if (event.key === "Enter" && document.activeElement === card && card) actions.Enter = () => unfold(card);
  const digit = Number(event.key) - 1;
  if (MODES[digit]) actions[event.key] = () => (chooseMode(MODES[digit]), run());
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

function onClick(event) {
  const { copy, fold, filter, drop, close } = event.target.closest("[data-copy], [data-fold], [data-filter], [data-drop], [data-close]")?.dataset ?? {};
  if (copy !== undefined) copyPlace(copy);
  if (fold !== undefined) unfold(event.target.closest(".result"));
  if (close !== undefined) event.target.closest("dialog").close();
  if (filter !== undefined || drop !== undefined) {
    if (filter !== undefined) addFilter(filter);
    else (filters = filters.filter((one) => one !== drop)), showFilters();
    run();
  }
}

function listen() {
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    addFilter(byId("filter").value.trim());
    byId("filter").value = "";
    run();
  });
  for (const id of ["compare", "content", "count", "group", "rerank", "modes"]) byId(id).addEventListener("change", () => run());
  byId("index").addEventListener("change", () => (showStatistics(), run()));
  byId("add-form").addEventListener("submit", submitDocument);
  byId("key-form").addEventListener("submit", () => (setKey(byId("key-value").value), start()));
  for (const name of ["add", "key", "help"]) byId(`open-${name}`).addEventListener("click", () => byId(name).showModal());
  byId("theme").addEventListener("click", switchTheme);
  addEventListener("keydown", onKey);
  addEventListener("click", onClick);
  addEventListener("popstate", () => (readAddress(), showStatistics(), run({ keepAddress: true })));
}

async function start() {
  try {
    await loadIndexes();
    readAddress();
    showStatistics();
    await run({ keepAddress: true });
  } catch (error) {
    fail(error);
  }
}

showTheme();
listen();
start();
