"""The script of the report: draws the charts in the page's colours, and sorts and filters the table of results."""

JAVASCRIPT = r"""
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function draw() {
    const config = data.themes[dark.matches ? "dark" : "light"];
    const options = { mode: "vega-lite", actions: false, renderer: data.renderer, config: config,
      tooltip: { theme: dark.matches ? "dark" : "light" } };
    const all = Object.entries(data.charts).map(function (entry) {
      return window.vegaEmbed(document.getElementById(entry[0]), entry[1], options);
    });
    Promise.all(all).then(function () { document.documentElement.dataset.charts = "drawn"; });
  }
  draw();
  dark.addEventListener("change", draw);

  const columns = data.columns, rows = data.rows, body = document.querySelector("#results tbody");
  const [find, shown, more] = ["find", "shown", "more"].map(function (id) { return document.getElementById(id); });
  const selects = Array.from(document.querySelectorAll("#results select"));
  const PAGE = 100;
  let limit = PAGE, order = null, up = true;

  function text(value, column) {
    if (value === null) return "\u2013";
    if (typeof value !== "number") return String(value);
    if (column.kind === "count") return value.toLocaleString("en");
    return column.kind === "loss" ? value.toFixed(4) : String(Number(value.toPrecision(5)));
  }
  function matches(row) {
    const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const whole = columns.map(function (column, i) { return text(row[i], column); }).join(" ").toLowerCase();
    return wanted.every(function (word) { return whole.includes(word); }) && selects.every(function (select) {
      const at = columns.findIndex(function (column) { return column.name === select.name; });
      return !select.value || String(row[at]) === select.value;
    });
  }
  function compare(a, b) {
    const x = a[order], y = b[order];
    if (!columns[order].numeric) return (up ? 1 : -1) * String(x).localeCompare(String(y), "en", { numeric: true });
    // What is no number comes last in both directions.
    const [first, second] = [x, y].map(function (v) { return v === null ? 2 : typeof v === "number" ? 0 : 1; });
    return first || second ? first - second : up ? x - y : y - x;
  }
  function render() {
    let found = rows.filter(matches);
    if (order !== null) found = found.slice().sort(compare);
    const part = document.createDocumentFragment();
    found.slice(0, limit).forEach(function (row) {
      const line = document.createElement("tr");
      columns.forEach(function (column, i) {
        const cell = document.createElement("td"), value = row[i];
        cell.textContent = text(value, column);
        if (column.numeric) cell.className = "n";
        if (column.numeric && typeof value === "string") { cell.classList.add("flag"); line.className = "bad"; }
        line.appendChild(cell);
      });
      part.appendChild(line);
    });
    body.replaceChildren(part);
    shown.textContent = Math.min(limit, found.length) + " of " + found.length + " rows" +
      (found.length < rows.length ? " (" + rows.length + " in all)" : "");
    more.hidden = found.length <= limit;
  }
  function again() { limit = PAGE; render(); }
  find.addEventListener("input", again);
  selects.forEach(function (select) { select.addEventListener("change", again); });
  more.addEventListener("click", function () { limit += 10 * PAGE; render(); });
  document.querySelectorAll("#results thead th").forEach(function (head, i) {
    head.querySelector("button").addEventListener("click", function () {
      up = order === i ? !up : true;
      order = i;
      document.querySelectorAll("#results thead th").forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      render();
    });
  });
  render();
})();
"""
