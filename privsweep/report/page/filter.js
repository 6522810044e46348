// Which runs are shown: choices from lists, and words that all must occur.

const FACETS = [
  ["attack", (run) => run.choices.attack], ["dataset", (run) => run.choices.dataset],
  ["model", (run) => run.choices.model], ["setting", (run) => run.choices.fl_setting],
  ["defence", defense], ["prior", (run) => run.choices.prior ?? "none"],
  ["experiment", (run) => run.choices.experiment ?? "none"], ["seed", (run) => run.seed],
  ["scale", (run) => run.scale], ["status", (run) => run.status],
];
const chosen = new Map();
let sought = [];

const partTexts = new Map();
function partText(part) {
  if (!partTexts.has(part)) {
    const text = Object.entries(data.parts[part]).map(([name, value]) => `${name}=${value}`).join(" ");
    partTexts.set(part, text.toLowerCase());
  }
  return partTexts.get(part);
}

// Numbers are sought as the page has them, with six digits: 1e-06 and one of a search's fifteen are found, too.
const asWritten = (word) => word.replace(/(?<==)[-+.\de]+$/, (typed) => {
  const value = Number(typed);
  return Number.isFinite(value) ? String(Number(value.toPrecision(6))) : typed;
});

const texts = new Map();
function contains(run, word) {
  if (!texts.has(run)) {
    const said = [run.id, run.status, run.error, run.scale, `seed=${run.seed}`, run.date, run.commit, defense(run)];
    const choices = Object.entries(run.choices).map(([group, choice]) => `${group}=${choice}`);
    texts.set(run, [...said, ...choices, ...(data.tables[run.id] ?? [])].join(" ").toLowerCase());
  }
  return texts.get(run).includes(word) || [...(run.parts ?? []), ...(run.about ?? [])].some((p) => partText(p).includes(word));
}

function shown() {
  return runs.filter((run) =>
    FACETS.every(([name, of]) => !chosen.get(name) || of(run) === chosen.get(name)) &&
    sought.every((word) => contains(run, word)));
}

function filterBar(changed) {
  const selects = new Map();
  for (const [name, of] of FACETS) {
    const counts = new Map();
    for (const run of runs) counts.set(of(run), (counts.get(of(run)) ?? 0) + 1);
    if (counts.size < 2) continue;
    const values = [...counts].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
    const options = [["", `${name}: any`], ...values.map(([value, n]) => [value, `${value} (${n})`])];
    selects.set(name, choose(name, options, "", (value) => set(name, value)));
  }
  const search = el("input", {
    type: "search", placeholder: "Find: mnist attack.lr=0.1 …", "aria-label": "Find runs", spellcheck: "false",
    oninput: () => { sought = search.value.toLowerCase().split(/\s+/).filter(Boolean).map(asWritten); changed(); },
  });
  function set(name, value) {
    chosen.set(name, value);
    const select = selects.get(name);
    if (select) { select.value = value; select.classList.toggle("set", value !== ""); }
    changed();
  }
  function clear() {
    for (const [name, select] of selects) { chosen.delete(name); select.value = ""; select.classList.remove("set"); }
    search.value = ""; sought = [];
    changed();
  }
  const many = el("details", { open: !matchMedia("(max-width: 720px)").matches }, el("summary", {}, "Filters"),
    el("div", { class: "bar" }, [...selects.values()], el("button", { type: "button", onclick: clear }, "Clear")));
  return { element: el("div", { class: "bar" }, search, many), set, clear };
}
