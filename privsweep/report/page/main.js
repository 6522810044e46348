// Puts the parts together, and follows links to runs.

function tabs(parts) {
  const bar = el("div", { role: "tablist", "aria-label": "views of the runs" });
  const panel = el("div", { role: "tabpanel", id: "view" });
  const buttons = parts.map(({ name }, i) => el("button", {
    type: "button", role: "tab", "aria-controls": "view", onclick: () => select(i),
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) select((i + step + parts.length) % parts.length, true);
    },
  }, name));
  function select(i, focus) {
    buttons.forEach((button, j) => {
      button.setAttribute("aria-selected", String(i === j));
      button.tabIndex = i === j ? 0 : -1;
    });
    panel.replaceChildren(parts[i].element);
    panel.setAttribute("aria-label", parts[i].name);
    if (focus) buttons[i].focus();
  }
  bar.append(...buttons);
  select(0);
  return { bar, panel, select, buttons };
}

function start(section) {
  const go = (run) => { location.hash = `#run/${run.id}`; follow(); };
  const compare = comparison((count) => { views.buttons[1].textContent = count ? `Compare (${count})` : "Compare"; });
  const list = runList(compare);
  const parts = [{ name: "List", element: list.element, update: list.update }, { name: "Compare", element: compare.element }];
  if (utilities.size && leakages.size) parts.push({ name: "Utility and leakage", ...tradeoff(go) });
  if (runs.some((run) => budget(run) !== undefined && numbers(run, "metrics").size)) parts.push({ name: "Privacy budget", ...budgets(go) });
  const views = tabs(parts);
  const count = el("span", { class: "quiet", role: "status" });

  function update() {
    const some = shown();
    count.textContent = some.length === runs.length ? `${runs.length} runs` : `${some.length} of ${runs.length} runs`;
    for (const part of parts) part.update?.(some);
  }

  const filter = filterBar(update);

  function follow() {
    const name = decodeURIComponent(location.hash.slice(1));
    const run = name.startsWith("run/") ? byId.get(name.slice(4)) : undefined;
    if (run) {
      if (!shown().includes(run)) filter.clear();
      views.select(0);
      list.reveal(run);
    } else if (name.startsWith("table/")) {
      const table = document.getElementById(name);
      if (table) { table.open = true; table.scrollIntoView(); }
    }
  }

  section.append(filter.element, count, views.bar, views.panel);
  update();
  document.getElementById("failed")?.addEventListener("click", () => { filter.set("status", "failed"); views.select(0); });
  addEventListener("hashchange", follow);
  follow();
}

// The figures of all tables in a row, from the pictures that are on the page already; each opens its table.
function gallery(place) {
  const figures = [...document.querySelectorAll("img.figure")];
  if (figures.length < 2) return;
  place.after(el("div", { class: "gallery", tabindex: "0", role: "region", "aria-label": "all figures" }, figures.map((figure) => {
    const table = figure.closest("details.table");
    const open = () => { table.open = true; table.scrollIntoView(); table.querySelector("summary").focus({ preventScroll: true }); };
    return el("button", { type: "button", onclick: open, title: figure.alt }, el("img", { src: figure.src, alt: figure.alt, loading: "lazy" }));
  })));
}

const tables = document.querySelector("#tables > h2");
if (tables) gallery(tables);
const section = document.getElementById("runs");
if (section) start(section);
