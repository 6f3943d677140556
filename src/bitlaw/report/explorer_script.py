"""The script of the explorer: controls choose the cells, the budget moves what is recommended."""

EXPLORER = r"""
(function () {
  "use strict";
  const root = document.getElementById("explorer");
  const bitlaw = window.bitlaw, settings = bitlaw.read("spec-explorer"), column = bitlaw.column;
  const element = document.getElementById("chart-explorer"), slider = document.getElementById("budget");
  const [limit, pick, drawn] = ["limit", "pick", "drawn"].map(function (id) { return document.getElementById(id); });
  const controls = {};
  root.querySelectorAll("select, input[type=checkbox]").forEach(function (one) { controls[one.name] = one; });
  const cells = Array.from({ length: bitlaw.data.cells.n }, function (_, i) { return i; });
  let view = null, chosen = null;

  function value(name) { return controls[name] ? controls[name].value : ""; }
  function about() { return settings.views[value("view")]; }
  function number(x) { return Number(x.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 }); }
  function signed(x) { return (x < 0 ? "\u2212" : "+") + number(Math.abs(x)); }
  function amount(x) { return number(x) + " " + about().unit; }
  function isMixed(i) { return (column("select")[i] || "none") !== "none"; }
  function x(i) { return column(about().x)[i] / about().per; }
  function y(i) { return column(about().y)[i]; }

  // The cells of an evaluation that have a place in the view; the axis of the budget is theirs, whatever is chosen.
  function there() {
    const formats = column("format"), texts = column("text"), text = value("text");
    const mixed = controls.mixed && controls.mixed.checked;
    return cells.filter(function (i) {
      return (!text || texts[i] === text) && typeof y(i) === "number" && typeof x(i) === "number" &&
        (about().unquantized || formats[i] !== "unquantized") && (mixed || !isMixed(i));
    });
  }
  function ends(numbers) {
    let low = Infinity, high = -Infinity;
    numbers.forEach(function (one) { low = Math.min(low, one); high = Math.max(high, one); });
    return [low, high];
  }
  // Which losses of `own` are drawn: a broken model far up would flatten what matters.
  function span(own) {
    if (about().log_y) {
      const [least, most] = ends(own.map(y).filter(function (loss) { return loss > 0; }));
      return most > 0 ? [least / 1.5, most * 1.5] : [0.1, 1];
    }
    if (!own.length) return [0, 1];
    const [low, high] = ends(own.map(y));
    const whole = own.filter(function (i) { return column("method")[i] === "none"; });
    const sizes = new Set(whole.map(function (i) { return column("n_params")[i]; }));
    const top = ends(whole.map(y))[1], edge = Math.min(high, low + 2);
    if (sizes.size > 1) return [low - 0.03, top + 0.6 * (top - low) + 0.1];
    return [low - 0.05 * (edge - low) - 0.01, edge + 0.05 * (edge - low) + 0.01];
  }
  function choose() {
    const family = value("family"), method = value("method"), kind = value("kind");
    const families = column("family"), methods = column("method"), kinds = column("kind");
    const every = there(), [left, right] = ends(every.map(x));
    // Unquantized models stay, whichever method or kind is chosen: they are what all else is compared with.
    const own = every.filter(function (i) {
      const whole = methods[i] === "none";
      return (!family || (families[i] || "no family") === family) && (!method || whole || methods[i] === method) &&
        (!kind || whole || kinds[i] === kind);
    });
    const ordered = own.slice().sort(function (a, b) { return x(a) - x(b) || y(a) - y(b); });
    let least = Infinity;
    const frontier = ordered.filter(function (i) {
      const lower = y(i) < least;
      least = Math.min(least, y(i));
      return lower;
    });
    return { cells: own, frontier: frontier, left: left, right: right, span: span(own) };
  }
  function budget() {
    const share = slider.value / slider.max, low = chosen.left, high = chosen.right;
    if (share >= 1) return high;
    return about().log ? low * Math.pow(high / low, share) : low + share * (high - low);
  }
  function best() {
    const most = budget() * (1 + 1e-9);
    let found = null;
    chosen.frontier.forEach(function (i) { if (x(i) <= most) found = i; });
    return found;
  }

  function point(i, low) {
    const share = !isMixed(i) ? "" : number(100 * column("q_ratio")[i]) + " % of the weights";
    return { x: x(i), y: about().log_y ? Math.max(y(i), low) : y(i), model: column("model")[i],
      format: column("format")[i], method: column("method")[i], kind: column("kind")[i],
      bits: column("effective_bits")[i], size: column("model_bits")[i] / settings.views.size.per,
      nll: column("nll")[i], delta_nll: column("delta_nll")[i], mix: share };
  }
  function named(i) {
    const format = column("format")[i], method = column("method")[i];
    if (format === "unquantized") return "unquantized";
    const part = !isMixed(i) ? "" : " (" + number(100 * column("q_ratio")[i]) + " % of the weights, by " +
      column("select")[i].replace(/_/g, " ") + ")";
    return format + part + " by " + (method.length <= 4 ? method.toUpperCase() : method);
  }
  function said(i) {
    const size = settings.views.size;
    return column("model")[i] + ", " + named(i) + ": " + number(column("effective_bits")[i]) + " bits per weight, " +
      number(column("model_bits")[i] / size.per) + " " + size.unit + " in all, loss " + column("nll")[i].toFixed(4) +
      " nats per token, " + signed(column("delta_nll")[i]) + " by quantization";
  }
  function tell(found) {
    const most = amount(budget());
    limit.textContent = about().budget + " " + most;
    slider.setAttribute("aria-valuetext", "at most " + most);
    pick.replaceChildren();
    const lead = document.createElement("strong");
    if (found === null) {
      const first = chosen.frontier[0];
      lead.textContent = "Nothing fits. ";
      pick.append(lead, first === undefined ? "No cell is chosen."
        : "The smallest that works is " + amount(x(first)) + ": " + said(first) + ".");
      return;
    }
    lead.textContent = "Least " + about().loss + " up to " + most + ": ";
    pick.append(lead, said(found) + ".");
    if (!about().unquantized) return;
    const whole = chosen.cells.filter(function (i) {
      return column("method")[i] === "none" && x(i) <= budget() * (1 + 1e-9);
    }).sort(function (a, b) { return y(a) - y(b); });
    if (whole.length && whole[0] !== found) {
      pick.append(" The best unquantized model that fits is " + column("model")[whole[0]] + " with " +
        column("nll")[whole[0]].toFixed(4) + ".");
    } else if (!whole.length) pick.append(" No unquantized model fits.");
  }

  // Everything that lies on the frontier is drawn, and of the rest so many, evenly chosen, as a picture can show.
  function thinned() {
    const step = Math.max(1, Math.ceil(chosen.cells.length / settings.most));
    const kept = new Set(chosen.frontier);
    return chosen.cells.filter(function (i, at) { return at % step === 0 || kept.has(i); });
  }
  function datasets() {
    const [low, high] = chosen.span, found = best(), some = thinned();
    const make = function (i) { return point(i, low); };
    const above = chosen.cells.filter(function (i) { return y(i) > high; }).length;
    const rest = some.length < chosen.cells.length ? ", evenly chosen; fewer families or methods show all" : "";
    drawn.textContent = some.length.toLocaleString("en") + " of " + chosen.cells.length.toLocaleString("en") +
      " cells drawn" + rest + (above ? "; " + above.toLocaleString("en") + " lie above the axis" : "") + ".";
    tell(found);
    const pad = about().log ? [chosen.left / 1.12, chosen.right * 1.12] : [chosen.left - 0.3, chosen.right + 0.3];
    const sides = Number.isFinite(pad[0]) ? pad : [1, 2];
    return { signals: { left: sides[0], right: sides[1], low: low, high: high },
      sets: { cells: some.map(make), frontier: chosen.frontier.map(make), budget: [{ x: budget() }],
        best: found === null ? [] : [make(found)] } };
  }
  async function draw() {
    chosen = choose();
    const now = datasets(), chart = JSON.parse(JSON.stringify(about().chart));
    chart.params = Object.keys(now.signals).map(function (name) { return { name: name, value: now.signals[name] }; });
    chart.datasets = now.sets;
    element.setAttribute("aria-label", about().title);
    view = await bitlaw.embed(element, chart, bitlaw.data.cells.n);
    root.dataset.ready = String(performance.now());
  }
  function refresh() {
    chosen = choose();
    const now = datasets();
    if (!view) return;
    Object.keys(now.signals).forEach(function (name) { view.signal(name, now.signals[name]); });
    Object.keys(now.sets).forEach(function (name) { view.data(name, now.sets[name]); });
    view.runAsync();
  }
  function move() {
    const found = best();
    tell(found);
    if (!view) return;
    view.data("budget", [{ x: budget() }]);
    view.data("best", found === null ? [] : [point(found, chosen.span[0])]);
    view.runAsync();
  }
  Object.keys(controls).forEach(function (name) {
    controls[name].addEventListener("change", name === "view" ? draw : refresh);
  });
  slider.addEventListener("input", move);
  bitlaw.onTheme(draw);
  draw().then(bitlaw.observe);
})();
"""
