// Everything about one run.

const zoom = (height) => Math.max(2, Math.round(128 / height)); // small images are drawn larger

function picture(run, size) {
  if (!run.picture) return null;
  const [src, width, height] = run.picture;
  const alt = "originals above their reconstructions";
  return size === "thumb" ? el("img", { src, class: "thumb", loading: "lazy", alt })
    : el("img", { src, class: "big", width: width * zoom(height), height: height * zoom(height), alt });
}

// A metric beside its median, or its 95% interval.
function metricRows(all) {
  const rows = [];
  for (const [name, value] of all) {
    if (/_(median|low|high)$/.test(name) && all.has(name.replace(/_(median|low|high)$/, ""))) continue;
    const median = all.has(`${name}_median`) ? ` (median ${show(all.get(`${name}_median`), name)})` : "";
    const between = all.has(`${name}_low`) ? ` [${["low", "high"].map((end) => show(all.get(`${name}_${end}`), name)).join(", ")}]` : "";
    rows.push([words(name), show(value, name) + median + between]);
  }
  return rows;
}

const block = (heading, ...content) => el("div", {}, el("h4", {}, heading), ...content);

function folded(summary, make) {
  const box = el("details", { ontoggle: () => { if (box.open && box.children.length < 2) box.append(make()); } },
    el("summary", { class: "quiet" }, summary));
  return box;
}

function metricsBlock(run) {
  const all = numbers(run, "metrics");
  if (!all.size) return null;
  const rows = metricRows(all);
  const paper = (name) => / paper/.test(name);
  const main = rows.filter(([name]) => !paper(name)).slice(0, 14);
  const rest = rows.filter((row) => !main.includes(row));
  return block("Metrics", pairs(main), rest.length ? folded(`${rest.length} more`, () => pairs(rest)) : null);
}

function plain(run, which, heading) {
  const all = numbers(run, which);
  return all.size ? block(heading, pairs([...all].map(([name, value]) => [words(name), show(value, name)]))) : null;
}

// Of the final model apart only where another one was attacked.
function utilityBlock(run) {
  const all = [...numbers(run, "utility")];
  const finals = all.filter(([name]) => name.startsWith("final_"));
  const attacked = new Map(all);
  const same = finals.every(([name, value]) => attacked.get(name.slice("final_".length)) === value);
  const rows = all.filter(([name]) => !same || !name.startsWith("final_"));
  return rows.length ? block("Utility", pairs(rows.map(([name, value]) => [words(name), show(value, name)]))) : null;
}

function curveBlocks(run) {
  const out = [];
  if (run.objective) {
    const { y, lines: many } = run.objective;
    const values = many.flatMap(([, line]) => line).filter((v) => v !== null);
    const chart = lines({ curves: run.objective, xlabel: "iteration", ylabel: words(y), logy: Math.min(...values) > 0,
      label: "objective by iteration" });
    if (chart) out.push(block(`Objective by iteration, first ${many.length > 1 ? `${many.length} victims` : "victim"}`, chart));
  }
  if (run.training) {
    out.push(block("Accuracy by round", lines({ curves: run.training, xlabel: "round", ylabel: "accuracy", label: "accuracy by round" }),
      key(run.training.lines.map(([name]) => name))));
  }
  if (run.roc) {
    out.push(block("ROC", lines({ curves: run.roc, xlabel: "false positive rate", ylabel: "true positive rate", square: true,
      diagonal: true, label: "ROC curve" })));
  }
  return out;
}

function commandBlock(run) {
  const code = el("code", { tabindex: "0" }, run.command);
  const done = (text) => { button.textContent = text; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
  const button = el("button", { type: "button", onclick: () => {
    getSelection().selectAllChildren(code);
    if (!navigator.clipboard) return done("Selected");
    navigator.clipboard.writeText(run.command).then(() => done("Copied"), () => done("Selected"));
  } }, "Copy");
  return el("div", { class: "all" }, el("h4", {}, "Make it again"), el("div", { class: "command" }, code, button));
}

function provenance(run) {
  const about = (run.about ?? []).flatMap((part) => Object.entries(data.parts[part]));
  const rows = [["signature", run.id], ["date", (run.date ?? "").replace("T", " ").slice(0, 16)], ["commit", run.commit], ["seed", run.seed],
    ["scale", run.scale], ["experiment", run.choices.experiment], ["stands in", (data.tables[run.id] ?? []).join(", ")]];
  return block("Where it comes from", pairs([...rows.filter(([, value]) => value), ...about.map(([n, v]) => [words(n), String(v)])], "text"));
}

function files(run) {
  if (!run.files) return null;
  const folder = `runs/${encodeURIComponent(run.id)}/`;
  return el("p", { class: "quiet all" }, "Files: ", run.files.flatMap((name) =>
    [el("a", { href: folder + encodeURIComponent(name) }, name), " "]));
}

function said(run) {
  if (!run.sentences) return null;
  const rows = run.sentences.flatMap((one) => Object.entries(one).map(([name, text]) => [words(name), text]));
  return el("div", { class: "all" }, el("h4", {}, "Sentences"), pairs(rows, "text said"));
}

function sheet(run) {
  const config = configuration(run);
  return el("div", { class: "sheet" },
    run.error ? el("p", { class: "error all" }, `${run.status}: ${run.error}`) : null,
    run.picture ? el("div", { class: "all" }, picture(run, "big")) : null,
    said(run),
    el("div", { class: "columns" }, metricsBlock(run), utilityBlock(run), plain(run, "privacy", "Privacy budget"),
      curveBlocks(run), plain(run, "seconds", "Seconds"), provenance(run)),
    el("div", { class: "all" }, folded(`Configuration (${config.size} values)`, () =>
      el("div", { class: "columns" }, pairs([...config].map(([n, v]) => [n, String(v)]), "text")))),
    commandBlock(run), files(run));
}
