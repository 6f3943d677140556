"""The scripts of the page: charts are drawn where they are looked at, in its colours; the table is sorted and filtered.

``window.bitlaw`` is what the scripts share: the columns of the cells, how numbers are shown, and ``embed``.
"""

CHARTS = r"""
(function () {
  "use strict";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const read = function (id) { return JSON.parse(document.getElementById(id).textContent); };
  const data = read("data"), decoded = {};
  const POINTS_OF_SVG = 1500;

  // A column is a list, or the places of its values in the list of those that differ.
  function values(column) {
    return Array.isArray(column) ? column : column.at.map(function (place) { return column.of[place]; });
  }
  function unpack(packed) {
    const names = Object.keys(packed.columns), rows = [];
    const columns = names.map(function (name) { return values(packed.columns[name]); });
    for (let i = 0; i < packed.n; i++) {
      const row = {};
      for (let j = 0; j < names.length; j++) row[names[j]] = columns[j][i];
      rows.push(row);
    }
    return rows;
  }
  function column(name) {
    if (!decoded[name]) decoded[name] = values(data.cells.columns[name]);
    return decoded[name];
  }
  function text(value, kind) {
    if (value === null || value === undefined) return "\u2013";
    if (typeof value !== "number") return String(value);
    if (kind === "count") return value.toLocaleString("en");
    return kind === "loss" ? value.toFixed(4) : String(Number(value.toPrecision(5)));
  }

  // What is drawn in an element, and how to draw it again in other colours.
  const views = new Map();
  async function embed(element, specification, points) {
    const theme = dark.matches ? "dark" : "light";
    const options = { mode: "vega-lite", actions: false, config: data.themes[theme], tooltip: { theme: theme },
      renderer: points > POINTS_OF_SVG ? "canvas" : "svg" };
    const before = views.get(element);
    const made = await window.vegaEmbed(element, specification, options);
    if (before) before.finalize();
    views.set(element, made);
    element.dataset.drawn = theme;
    return made.view;
  }
  async function draw(element) {
    const chart = read("spec-" + element.id.slice("chart-".length));
    let points = 0;
    Object.keys(chart.datasets).forEach(function (name) {
      points += chart.datasets[name].n;
      chart.datasets[name] = unpack(chart.datasets[name]);
    });
    await embed(element, chart, points);
  }

  const waiting = new Set(document.querySelectorAll(".chart:not([data-own])"));
  const all = Array.from(waiting);
  function start(element) {
    if (waiting.delete(element)) { seen.unobserve(element); draw(element); }
  }
  const seen = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) { if (entry.isIntersecting) start(entry.target); });
  }, { rootMargin: "500px 0px" });
  // What is below the fold waits for the explorer, which calls this when it is drawn.
  function observe() { waiting.forEach(function (element) { seen.observe(element); }); }
  window.addEventListener("beforeprint", function () { all.forEach(start); });

  const redraws = [function () { all.forEach(function (element) { if (!waiting.has(element)) draw(element); }); }];
  dark.addEventListener("change", function () { redraws.forEach(function (redraw) { redraw(); }); });
  window.bitlaw = { data: data, read: read, column: column, text: text, embed: embed, observe: observe,
    onTheme: function (redraw) { redraws.push(redraw); } };
})();
"""

RESULTS = r"""
(function () {
  "use strict";
  const bitlaw = window.bitlaw, columns = bitlaw.data.columns, count = bitlaw.data.cells.n;
  const values = columns.map(function (column) { return bitlaw.column(column.name); });
  const body = document.querySelector("#results tbody"), heads = document.querySelectorAll("#results thead th");
  const [find, shown, more] = ["find", "shown", "more"].map(function (id) { return document.getElementById(id); });
  const selects = Array.from(document.querySelectorAll("#results select"));
  const every = Array.from({ length: count }, function (_, i) { return i; });
  const PAGE = 100;
  let limit = PAGE, order = null, up = true, lines = null;

  // The text of each row, which only a search needs.
  function line(i) {
    if (!lines) lines = new Array(count);
    if (lines[i] === undefined) {
      lines[i] = columns.map(function (column, j) { return bitlaw.text(values[j][i], column.kind); })
        .join(" ").toLowerCase();
    }
    return lines[i];
  }
  function compare(a, b) {
    const x = values[order][a], y = values[order][b];
    if (!columns[order].numeric) return (up ? 1 : -1) * String(x).localeCompare(String(y), "en", { numeric: true });
    // What is no number comes last in both directions.
    const [first, second] = [x, y].map(function (v) { return v === null ? 2 : typeof v === "number" ? 0 : 1; });
    return first || second ? first - second : up ? x - y : y - x;
  }
  function render() {
    const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = selects.filter(function (select) { return select.value; }).map(function (select) {
      return [bitlaw.column(select.name), select.value];
    });
    let found = every;
    if (wanted.length || chosen.length) found = every.filter(function (i) {
      return chosen.every(function (one) { return String(one[0][i]) === one[1]; }) &&
        wanted.every(function (word) { return line(i).includes(word); });
    });
    if (order !== null) found = found.slice().sort(compare);
    const part = document.createDocumentFragment();
    found.slice(0, limit).forEach(function (i) {
      const row = document.createElement("tr");
      columns.forEach(function (column, j) {
        const cell = document.createElement("td"), value = values[j][i];
        cell.textContent = bitlaw.text(value, column.kind);
        if (column.numeric) cell.className = "n";
        if (column.numeric && typeof value === "string") { cell.classList.add("flag"); row.className = "bad"; }
        row.appendChild(cell);
      });
      part.appendChild(row);
    });
    body.replaceChildren(part);
    shown.textContent = Math.min(limit, found.length) + " of " + found.length + " rows" +
      (found.length < count ? " (" + count + " in all)" : "");
    more.hidden = found.length <= limit;
  }
  function again() { limit = PAGE; render(); }
  find.addEventListener("input", again);
  selects.forEach(function (select) { select.addEventListener("change", again); });
  more.addEventListener("click", function () { limit += 10 * PAGE; render(); });
  heads.forEach(function (head, i) {
    head.querySelector("button").addEventListener("click", function () {
      up = order === i ? !up : true;
      order = i;
      heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      render();
    });
  });
  render();
})();
"""
