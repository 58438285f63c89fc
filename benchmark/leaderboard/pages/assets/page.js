"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const MISSING = "–";
  // A table of more has a scroller of its own, in which its head stays in sight.
  const UNSCROLLED_ROWS = 40;
  const LEAST_DIGITS = 6;
  const collator = new Intl.Collator("en", { numeric: true });
  const board = document.getElementById("board");
  const runView = document.getElementById("run");

  // Elements. Data becomes text nodes and attributes only, never markup.

  // Control and direction characters would let a name pose as something else.
  const plain = (value) => String(value).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ");

  const append = (node, children) => {
    for (const child of children.flat()) {
      if (child === null || child === undefined || child === "") continue;
      node.append(child instanceof Node ? child : plain(child));
    }
    return node;
  };

  const element = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    return append(node, children);
  };

  const drawn = (tag, attributes = {}, ...children) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return append(node, children);
  };

  // Sorting

  const keyOf = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent.trim() || null;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };

  const sortTable = (table, header, ascending) => {
    const body = table.tBodies[0];
    const numeric = header.dataset.sort === "number";
    const sign = ascending ? 1 : -1;
    const compare = numeric ? (a, b) => a - b : collator.compare;
    // From the first order each time, so that equal rows stand as they did there.
    const keyed = table.firstOrder.map((row) => [keyOf(row, header.cellIndex, numeric), row]);
    const missing = keyed.filter(([key]) => key === null);
    const known = keyed.filter(([key]) => key !== null).sort(([a], [b]) => sign * compare(a, b));
    const fragment = document.createDocumentFragment();
    for (const [, row] of [...known, ...missing]) fragment.append(row);
    body.append(fragment);
    for (const other of header.parentNode.cells) {
      other.setAttribute("aria-sort", other === header ? (ascending ? "ascending" : "descending") : "none");
    }
  };

  const makeSortable = (table) => {
    table.firstOrder = [...table.tBodies[0].rows];
    for (const header of table.tHead.rows[0].cells) {
      const button = element("button", { type: "button" }, ...header.childNodes);
      header.append(button);
      if (!header.hasAttribute("aria-sort")) header.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const now = header.getAttribute("aria-sort");
        const ascending = now === "none" ? !("high" in header.dataset) : now === "descending";
        sortTable(table, header, ascending);
      });
    }
  };

  // Filters

  const makeFilter = (form) => {
    const table = form.parentNode.querySelector("table.results");
    const rows = [...table.tBodies[0].rows].map((row) => [row, row.cells[1].textContent.toLowerCase()]);
    const search = form.querySelector("input");
    const selects = [...form.querySelectorAll("select")];
    const status = form.querySelector(".shown");
    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, text] of rows) {
        const chosen = selects.every(({ value, dataset }) => !value || row.cells[dataset.column].textContent === value);
        row.hidden = !(chosen && words.every((word) => text.includes(word)));
        if (!row.hidden) shown += 1;
      }
      status.textContent = `${shown} of ${rows.length} rows shown`;
    };
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", apply);
    form.hidden = false;
    apply();
  };

  // The data of the runs

  let parsed = null;
  const data = () => (parsed ??= JSON.parse(document.getElementById("data").textContent));

  // The runs whose ids begin with `digits`, as they are named in the data.
  const runsOf = (digits) => {
    if (digits.length < LEAST_DIGITS) return [];
    return Object.entries(data().records).filter(([, { id }]) => id.startsWith(digits)).map(([run]) => run);
  };

  const runOf = (run) => {
    const { records, shared, rows, tracks, runs } = data();
    const record = { ...records[run], history: { ...records[run].history } };
    for (const key of ["title", "spec", "recipe", "weights", "environment", "scheduler", "data"]) {
      record[key] = shared[record[key]];
    }
    for (const key of ["epoch", "stage", "lr"]) record.history[key] = shared[record.history[key]];
    record.row = rows[record.row];
    record.track = tracks[record.row.track];
    record.seeds = record.row.runs.map((other) => [other, records[other].seed]);
    record.file = `${runs}/${encodeURIComponent(record.folder)}/record.json`;
    return record;
  };

  const percent = (value) => (value === null || value === undefined ? MISSING : value.toFixed(2));
  const count = (value) => value.toLocaleString("en");

  const seconds = (value) => {
    if (value < 120) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
    return value < 7200 ? `${(value / 60).toFixed(1)} min` : `${(value / 3600).toFixed(1)} h`;
  };

  const flat = (value, prefix = "") =>
    Object.entries(value).flatMap(([key, part]) =>
      part !== null && typeof part === "object" && !Array.isArray(part)
        ? flat(part, `${prefix}${key}.`)
        : [[prefix + key, typeof part === "string" ? part : JSON.stringify(part)]],
    );

  // Parts of a run's page

  const facts = (pairs) => {
    const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
    if (!known.length) return element("p", { class: "quiet" }, "none");
    return element(
      "dl",
      { class: "facts" },
      known.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
    );
  };

  const part = (title, ...children) => element("section", {}, element("h2", {}, title), ...children);

  const folded = (title, ...children) =>
    element("details", { open: "" }, element("summary", {}, element("h3", {}, title)), ...children);

  const scroll = (label, table) =>
    element(
      "div",
      {
        class: table.tBodies[0].rows.length > UNSCROLLED_ROWS ? "scroll tall" : "scroll",
        tabindex: "0",
        role: "region",
        "aria-label": label,
      },
      table,
    );

  const grid = (columns, rows, attributes) =>
    element(
      "table",
      attributes,
      element("thead", {}, element("tr", {}, columns)),
      element("tbody", {}, rows.map((cells) => element("tr", {}, cells))),
    );

  const header = (name, numeric, high) =>
    element(
      "th",
      {
        scope: "col",
        class: numeric ? "number" : null,
        "data-sort": numeric ? "number" : "text",
        "data-high": high ? "" : null,
      },
      name,
    );

  const number = (value, text) => element("td", { class: "number", "data-value": value ?? "" }, text);

  const weightSet = (name) => data().columns.weight_sets[name];

  const scoreRows = (run) => {
    const line = (name, note, scores) => [
      element("th", { scope: "row" }, name, note ? element("small", {}, ` ${note}`) : null),
      ...data().columns.scores.map((_, i) => number(scores[i], percent(scores[i]))),
    ];
    const rows = Object.entries(run.scores).map(([set, scores]) =>
      line(`Test, ${weightSet(set)} weights`, set === run.declared ? "these count" : "", scores),
    );
    if (run.validation) rows.push(line("Validation", `${weightSet(run.declared)} weights`, run.validation));
    if (run.oracle) {
      const [scores, epoch, set] = run.oracle;
      const note = `best on the test set, not ranked: epoch ${epoch}, ${weightSet(set)} weights`;
      rows.push(line("Oracle", note, scores));
    }
    const { runs, scores } = run.row;
    const part = (i) => scores.map((values) => values[i]);
    rows.push(line(`Mean over ${runs.length} seed${runs.length === 1 ? "" : "s"}`, "of this row", part(0)));
    rows.push(line("± 95 %", "seeds and test images, as far as known", part(1)));
    rows.push(line("± of seeds", "", part(2)), line("± of test images", "", part(3)));
    return rows;
  };

  const scoresPart = (run) => {
    const columns = [header("Scores, %", false), ...data().columns.scores.map((name) => header(name, true))];
    const [rule, epoch] = run.selection;
    const scored = `Scored: epoch ${epoch} of ${run.recipe.epochs}, chosen by the rule ${rule}.`;
    const table = grid(columns, scoreRows(run), { class: "names" });
    const beside = run.beside
      ? scroll(
          "Beside the metric",
          grid(data().columns.beside.map((name) => header(name, true)), [run.beside.map((value) => number(value, percent(value)))]),
        )
      : null;
    return part("Scores", scroll("Scores", table), beside, element("p", {}, epoch ? scored : "Nothing was trained."));
  };

  const classesPart = (run) => {
    const columns = [
      header("Class", false),
      header("Group", false),
      header("Training images", true, true),
      header("AP, %", true, true),
    ];
    const rows = run.track.classes.map(([name, group, images], i) => {
      const score = run.classes[i];
      const bar = element("span", { class: `bar ${group}` });
      bar.style.width = `${score ?? 0}%`;
      const cell = number(score, percent(score));
      cell.append(element("span", { class: "track-bar", "aria-hidden": "true" }, bar));
      return [element("th", { scope: "row" }, name), element("td", {}, group), number(images, count(images)), cell];
    });
    const table = grid(columns, rows, { class: "sortable names classes" });
    makeSortable(table);
    sortTable(table, columns[2], false);
    return part("Average precision of each class", scroll("Average precision of each class", table));
  };

  const short = (value) => {
    if (value === 0) return "0";
    const size = Math.abs(value);
    return size < 1e-3 || size >= 1e4 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
  };

  const ticks = (low, high) => {
    const raw = (high - low) / 5;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw);
    const found = [];
    for (let at = Math.ceil(low / step); at * step <= high * (1 + 1e-9); at += 1) found.push(at * step);
    return found;
  };

  const chart = (title, epochs, values) => {
    const [width, height, left, right, top, bottom] = [340, 190, 48, 10, 10, 30];
    const points = epochs.map((epoch, i) => [epoch, values[i]]).filter(([, value]) => value !== null);
    const low = Math.min(0, ...points.map(([, value]) => value));
    const high = Math.max(...points.map(([, value]) => value));
    const ceiling = high > low ? high * 1.05 : low + 1;
    const [first, last] = [epochs[0], epochs[epochs.length - 1]];
    const x = (epoch) => left + ((width - left - right) * (last > first ? (epoch - first) / (last - first) : 0.5));
    const y = (value) => height - bottom - ((height - top - bottom) * (value - low)) / (ceiling - low);
    const at = (value) => value.toFixed(1);
    const name = `${title} of each epoch`;
    const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name });
    for (const tick of ticks(low, ceiling)) {
      svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: at(y(tick)), y2: at(y(tick)) }));
      svg.append(drawn("text", { x: left - 6, y: at(y(tick) + 4), "text-anchor": "end" }, short(tick)));
    }
    for (const epoch of new Set([first, last])) {
      const anchor = epoch === first ? "start" : "end";
      svg.append(drawn("text", { x: at(x(epoch)), y: height - 10, "text-anchor": anchor }, epoch));
    }
    svg.append(drawn("text", { x: (left + width - right) / 2, y: height - 10, "text-anchor": "middle" }, "epoch"));
    const path = points.map(([epoch, value]) => `${at(x(epoch))},${at(y(value))}`).join(" ");
    svg.append(drawn("polyline", { points: path }));
    for (const [epoch, value] of points) {
      const tip = drawn("title", {}, `epoch ${epoch}: ${short(value)}`);
      svg.append(drawn("circle", { cx: at(x(epoch)), cy: at(y(value)), r: points.length > 60 ? 2 : 3 }, tip));
    }
    return element("figure", {}, element("figcaption", {}, title), svg);
  };

  const stagesOf = ({ stage, epoch }) => {
    const spans = [];
    stage.forEach((name, i) => {
      const latest = spans[spans.length - 1];
      if (latest && latest.name === name) latest.to = epoch[i];
      else spans.push({ name, from: epoch[i], to: epoch[i] });
    });
    return spans.map(({ name, from, to }) => `${name}: epochs ${from} to ${to}`).join("; ");
  };

  const trainingPart = (run) => {
    const { epoch, lr, loss, val } = run.history;
    if (!epoch.length) return part("Training", element("p", {}, "Nothing was trained."));
    const charts = [chart("Loss", epoch, loss), chart("Learning rate of the backbone", epoch, lr)];
    if (val) charts.push(chart("Validation mAP, %", epoch, val));
    const stages = new Set(run.history.stage).size > 1 ? element("p", {}, stagesOf(run.history)) : null;
    return part("Training", element("div", { class: "charts" }, charts), stages);
  };

  const costPart = (run) => {
    const [prepare, train, evaluate] = run.timings;
    const [trained, all] = run.parameters;
    return part(
      "Cost",
      facts([
        ["Training", seconds(train)],
        ["Preparing", seconds(prepare)],
        ["Scoring", seconds(evaluate)],
        ["Images a second while training", count(run.speed)],
        ["Peak memory", `${count(run.memory)} MB`],
        ["Parameters trained", count(trained)],
        ["Parameters, all", count(all)],
        ["Attempts", run.attempts],
        ["Finished", run.finished],
      ]),
    );
  };

  const setupPart = (run) => {
    const { spec } = run;
    return part(
      "What was run",
      facts([
        ["Method", `${spec.method} v${spec.method_version}`],
        ["Seed", run.seed],
        ["Dataset", spec.dataset.name],
        ["Training images", count(run.track.images[0])],
        ["Test images", count(run.track.images[1])],
        ...(run.shared ? [["Images in two lists, allowed", count(run.shared)]] : []),
        ["Protocol", `${spec.protocol} v${spec.protocol_version}`],
        ["Changes to the protocol", flat(spec.overrides).map((pair) => pair.join("=")).join(", ") || "none"],
        ["Changes to the method", flat(spec.config_overrides).map((pair) => pair.join("=")).join(", ") || "none"],
      ]),
      folded("Configuration of the method", facts(flat(spec.config))),
      folded("Recipe", facts(flat(run.recipe))),
      folded("Pretrained weights", facts(flat(run.weights))),
    );
  };

  const environmentPart = (run) => {
    const { packages, code_digest: code, git_commit: commit, git_dirty: dirty, ...machine } = run.environment;
    const state = dirty === null ? "" : dirty ? " (with uncommitted changes)" : " (clean)";
    return part(
      "Environment",
      facts(flat(machine).filter(([, value]) => value !== "null")),
      folded("Packages", facts(flat(packages))),
      folded("Scheduler", facts(flat(run.scheduler))),
      folded(
        "Digests",
        facts([
          ["Run", run.id],
          ["Dataset", run.spec.dataset.fingerprint],
          ["Code", code],
          ["Git commit", commit && commit + state],
          ...Object.entries(run.data).map(([split, digest]) => [`Pixels, ${split}`, digest]),
          ["Model", run.model],
          ["Logits", run.logits],
        ]),
      ),
    );
  };

  const copy = async (node) => {
    try {
      await navigator.clipboard.writeText(node.textContent);
      return true;
    } catch {
      const range = document.createRange();
      range.selectNodeContents(node);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      return document.execCommand("copy");
    }
  };

  const commandPart = (run) => {
    const code = element("code");
    code.textContent = run.command; // as it is: it is to be copied
    const button = element("button", { type: "button", class: "copy" }, "Copy the command");
    const status = element("span", { role: "status" });
    button.addEventListener("click", async () => {
      status.textContent = (await copy(code)) ? "Copied" : "Selected: press Ctrl-C";
    });
    const file = element("a", { href: run.file }, "record.json");
    return part(
      "Run it again",
      element("pre", { tabindex: "0", "aria-label": "Command" }, code),
      element("p", {}, button, " ", status),
      element("p", {}, "What the run stored, unrounded, is in ", file, " and the logits beside it."),
    );
  };

  const seedLinks = (run, shown) =>
    element(
      "p",
      {},
      "Seeds of this row: ",
      run.seeds.flatMap(([other, seed]) => [
        other === shown
          ? element("strong", { "aria-current": "page" }, seed)
          : element("a", { href: `#run/${other}` }, seed),
        " ",
      ]),
    );

  const backLink = () =>
    element("p", { class: "back" }, element("a", { href: boardHash || "#" }, "← Back to the table"));

  const notFound = (digits, found) => {
    const begins = `that begins with “${digits}”`;
    let text = `No run on this page has an id ${begins}. It may have been removed, or done again.`;
    if (digits.length < LEAST_DIGITS) text = `A run is found by the first ${LEAST_DIGITS} digits of its id or more.`;
    if (found.length > 1) text = `${found.length} runs on this page have an id ${begins}: give more digits.`;
    return ["Run not found", [backLink(), element("h1", {}, "Run not found"), element("p", {}, text)]];
  };

  const runPage = (id) => {
    const run = runOf(id);
    const title = `${run.row.label}, seed ${run.seed}`;
    const head = [
      backLink(),
      element("h1", {}, title),
      element("p", { class: "quiet" }, `${run.title} · ${run.track.title}`),
      run.seeds.length > 1 ? seedLinks(run, id) : null,
    ];
    const parts = [scoresPart, commandPart, trainingPart, classesPart, costPart, setupPart, environmentPart];
    return [title, [...head, ...parts.map((make) => make(run))]];
  };

  // Which view is shown: the address says it, so that links and the back button work.

  const boardTitle = document.title;
  let boardHash = "";
  let boardScroll = 0;
  let opener = null;
  let current = null;

  const showRun = (digits) => {
    const found = runsOf(digits);
    const [title, content] = found.length === 1 ? runPage(found[0]) : notFound(digits, found);
    if (current === null) boardScroll = window.scrollY;
    current = found.length === 1 ? found[0] : digits;
    runView.replaceChildren();
    append(runView, content);
    document.title = `${plain(title)} – ${boardTitle}`;
    board.hidden = true;
    runView.hidden = false;
    window.scrollTo(0, 0);
    runView.focus({ preventScroll: true });
  };

  const showBoard = () => {
    const left = current;
    current = null;
    runView.hidden = true;
    runView.replaceChildren();
    board.hidden = false;
    document.title = boardTitle;
    if (left === null) return;
    const link = opener ?? document.querySelector(`a[data-run="${CSS.escape(left)}"]`);
    opener = null;
    window.scrollTo(0, boardScroll);
    (link ?? document.getElementById("tables")).focus({ preventScroll: boardScroll > 0 });
  };

  const route = () => {
    const found = /^#run\/(.*)$/.exec(location.hash);
    // The browser scrolls back by itself, but to where the view it leaves was.
    history.scrollRestoration = found ? "manual" : "auto";
    if (found) {
      let id = found[1];
      try {
        id = decodeURIComponent(id);
      } catch {
        // An address that is not well formed is shown as it is.
      }
      showRun(id);
    } else {
      boardHash = location.hash;
      showBoard();
    }
  };

  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
  for (const form of document.querySelectorAll("form.filters")) makeFilter(form);
  for (const link of document.querySelectorAll("a[data-run]")) link.setAttribute("href", `#run/${link.dataset.run}`);
  board.addEventListener("click", (event) => {
    opener = event.target.closest("a[data-run]") ?? opener;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && current !== null) location.hash = boardHash;
  });
  // Paper has nothing to unfold.
  let unfolded = [];
  window.addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open])")];
    for (const details of unfolded) details.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const details of unfolded) details.open = false;
  });
  window.addEventListener("hashchange", route);
  route();
})();
