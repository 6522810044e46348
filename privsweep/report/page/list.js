// The list of runs: sorted by any column, a batch at a time.

const BATCH = 60;

const COLUMNS = [
  { name: "run", of: (run) => `${title(run)} ${defense(run)}`, text: true },
  { name: "defence", of: defense, text: true, minor: true },
  { name: "seed", of: (run) => (/^-?\d+$/.test(run.seed) ? Number(run.seed) : run.seed), minor: true },
  { name: "scale", of: (run) => run.scale, text: true, minor: true },
  ...["test_accuracy", "bleu"].map((name) => ({ name, of: (run) => number(run, "utility", name) })),
  ...["ssim", "psnr", "recovered", "auc", "attack_accuracy", "property_auc", "token_accuracy"].map((name) => (
    { name, of: (run) => number(run, "metrics", name) })),
  { name: "epsilon", of: budget },
  { name: "seconds", of: (run) => number(run, "seconds", "total"), minor: true },
  { name: "date", of: (run) => run.date, text: true, minor: true },
];
const RARE = 0.05; // columns that a smaller share of the shown runs fills are left out

function order(a, b, column, down) {
  const [x, y] = [column.of(a) ?? null, column.of(b) ?? null];
  if (x === null || y === null) return (x === null) - (y === null); // what is missing comes last
  const less = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
  return down ? -less : less;
}

const classes = (column) => [column.text ? "text" : "", column.minor ? "minor" : "", column.name === "defence" ? "defence" : ""].join(" ");

function runList(compare) {
  let sorted = { name: "date", down: true };
  let wanted = []; // the runs in their order
  let drawn = 0;
  const further = most(counted("metrics", () => true)).filter((name) => !COLUMNS.some((c) => c.name === name));
  const keys = varied();
  const more = { name: "", of: () => undefined };
  let used = COLUMNS;
  const columns = () => (more.name ? [...used.slice(0, -2), more, ...used.slice(-2)] : used);
  const head = el("tr");
  const body = el("tbody");
  const rest = el("button", { type: "button", onclick: () => draw_() });
  const open = new Set();

  function header() {
    head.replaceChildren(el("th", { class: "text" }, "picture"), ...columns().map((column) => {
      const direction = sorted.name === column.name ? (sorted.down ? "descending" : "ascending") : null;
      const turn = () => {
        sorted = { name: column.name, down: sorted.name === column.name ? !sorted.down : !column.text };
        update(wanted);
      };
      return el("th", { class: classes(column), scope: "col", "aria-sort": direction },
        el("button", { type: "button", onclick: turn }, keys.includes(column.name) ? column.name : words(column.name)));
    }), el("th", {}, "compare"));
  }

  function value(column, run) {
    const found = column.of(run);
    if (found === undefined) return "";
    if (column.name === "date") return run.date ? run.date.slice(0, 16).replace("T", " ") : "";
    return column.name === "defence" ? words(found).replaceAll("+", " + ") : show(found, column.name);
  }

  function row(run) {
    const { attack, dataset, model, fl_setting } = run.choices;
    const button = el("button", { type: "button", "aria-expanded": "false" }, words(attack));
    const about = [dataset, model, words(fl_setting)].join(", ");
    const name = el("td", { class: "name" }, button, el("span", { class: "quiet" }, about, el("span", { class: "narrow" }, `, ${words(defense(run))}`)),
      complete(run) ? null : el("span", { class: "quiet error" }, `${run.status}: ${run.error ?? ""}`));
    const cells = columns().slice(1).map((column) =>
      el("td", { class: classes(column) }, value(column, run)));
    const tick = el("input", { type: "checkbox", "aria-label": `compare ${run.id}`, onchange: () => compare.toggle(run) });
    tick.checked = compare.has(run);
    tick.dataset.run = run.id;
    const line = el("tr", { class: "run", id: `run/${run.id}` }, el("td", { class: "small" }, small(run)), name, cells, el("td", {}, tick));
    line.addEventListener("click", (event) => {
      if (event.target.closest("a, input") || String(getSelection())) return;
      unfold(run, line, button);
    });
    return { line, button };
  }

  function small(run) {
    if (run.picture) return picture(run, "thumb");
    if (!run.roc) return null;
    const points = run.roc.x.map((x, i) => `${(38 * x + 1).toFixed(1)} ${(39 - 38 * run.roc.lines[0][1][i]).toFixed(1)}`);
    return draw("svg", { class: "roc", width: 40, height: 40, viewBox: "0 0 40 40", role: "img", "aria-label": "ROC curve" },
      draw("path", { class: "axis", d: "M1 1v38h38L1 39L39 1" }), draw("path", { class: "line k0", d: `M${points.join("L")}` }));
  }

  function unfold(run, line, button, only) {
    const below = line.nextElementSibling;
    const there = below?.classList.contains("details");
    if (there && only) return;
    if (there) below.remove();
    else line.after(el("tr", { class: "details" }, el("td", { colspan: columns().length + 2 }, sheet(run))));
    line.classList.toggle("open", !there);
    button.setAttribute("aria-expanded", String(!there));
    if (there) open.delete(run.id); else open.add(run.id);
  }

  function draw_(until = drawn + BATCH) {
    for (const run of wanted.slice(drawn, until)) {
      const { line, button } = row(run);
      body.append(line);
      if (open.has(run.id)) unfold(run, line, button);
    }
    drawn = Math.max(drawn, Math.min(until, wanted.length));
    rest.hidden = drawn >= wanted.length;
    rest.textContent = `Show more (${wanted.length - drawn})`;
  }

  function update(some) {
    const filled = (c) => some.filter((run) => (c.of(run) ?? "") !== "").length > RARE * some.length;
    used = COLUMNS.filter((c) => c.name === "date" || c.name === sorted.name || filled(c));
    const column = columns().find((c) => c.name === sorted.name) ?? used[0];
    wanted = [...some].sort((a, b) => order(a, b, column, sorted.down));
    header();
    body.replaceChildren();
    drawn = 0;
    draw_();
  }

  function reveal(run) {
    const place = wanted.indexOf(run);
    if (place < 0) return;
    draw_(Math.max(drawn, place + 1));
    const line = document.getElementById(`run/${run.id}`);
    unfold(run, line, line.querySelector("td.name button"), true);
    line.scrollIntoView({ block: "start" });
    line.querySelector("td.name button").focus({ preventScroll: true });
  }

  new IntersectionObserver((seen) => { if (seen[0].isIntersecting && !rest.hidden) draw_(); }, { rootMargin: "600px" }).observe(rest);
  const options = [["", "one more column"], ...keys.map((name) => [name, name]),
    ...further.slice(0, 300).map((name) => [name, words(name)])];
  const extra = choose("one more column", options, "", (name) => {
    more.name = name;
    more.of = keys.includes(name) ? (run) => setting(run, name) : (run) => number(run, "metrics", name);
    if (name) sorted = { name, down: true };
    update(wanted);
  });
  const table = el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "list of runs" },
    el("table", { class: "list" }, el("thead", {}, head), body));
  const element = el("div", {}, table, el("div", { class: "pad bar" }, rest, options.length > 1 ? extra : null));
  return { element, update, reveal };
}
