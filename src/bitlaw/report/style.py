"""The style sheet of the report: system fonts, light and dark, one column on a phone."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1c2330; --soft: #5b6472; --line: #e2e5ea; --accent: #2f6fd0;
  --warn-ink: #8a4b08; --warn: #fdf3e3; --bad-ink: #a31525; --bad: #fdeaec; --tint: #eef3fb;
}
@media (prefers-color-scheme: dark) { :root {
  --page: #12151a; --card: #1a1e25; --ink: #e6e8ec; --soft: #a4abb6; --line: #2c323b; --accent: #7fb0ff;
  --warn-ink: #f3c078; --warn: #33281a; --bad-ink: #ff9aa5; --bad: #3a1d22; --tint: #1f2937;
} }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 3.4rem; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main, header.top, footer { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem; }
header.top { padding-top: 2.5rem; }
h1 { font-size: clamp(1.5rem, 1.1rem + 1.8vw, 2.2rem); line-height: 1.2; margin: 0; letter-spacing: -0.015em; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 0.3rem; letter-spacing: -0.01em; }
h3 { font-size: 1rem; margin: 0 0 0.3rem; }
p { margin: 0.4rem 0 0.8rem; } .lead, .soft { color: var(--soft); } .lead { margin: 0.35rem 0 0; }
a { color: var(--accent); }
nav { position: sticky; top: 0; z-index: 5; background: var(--page); border-bottom: 1px solid var(--line);
  margin-top: 1.2rem; }
nav ul { max-width: 72rem; margin: 0 auto; padding: 0.55rem 1.25rem; list-style: none; display: flex; gap: 1.3rem;
  overflow-x: auto; }
nav a { text-decoration: none; color: var(--soft); font-size: 0.9rem; white-space: nowrap; }
  nav a:hover { color: var(--accent); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.15rem; }
.tiles { display: grid; gap: 0.9rem; grid-template-columns: repeat(auto-fit, minmax(min(9.5rem, 100%), 1fr)); margin:
  1rem 0; }
.tile b { display: block; font-size: 1.75rem; line-height: 1.2; letter-spacing: -0.02em; font-variant-numeric:
  tabular-nums; }
.tile span { color: var(--soft); font-size: 0.9rem; display: block; line-height: 1.35; margin-top: 0.15rem; }
.summary { margin: 0; padding-left: 1.2rem; } .summary li { margin: 0.3rem 0; }
.panels { display: grid; gap: 0.9rem; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); }
.wide { display: grid; gap: 0.9rem; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; } figure .chart { width: 100%; min-width: 0; display: block; }
.chart svg, .chart canvas { display: block; }
.chart details { display: none; }
figcaption { color: var(--soft); font-size: 0.88rem; margin-top: 0.3rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.1rem; margin: 0.3rem 0 0.9rem; font-size: 0.9rem; color:
  var(--soft); }
.legend span { display: inline-flex; align-items: center; gap: 0.4rem; }
.legend i { width: 0.8rem; height: 0.8rem; border-radius: 3px; display: inline-block; }
figure .legend { margin: 0.2rem 0 0.5rem; gap: 0.2rem 0.9rem; }
.formula { overflow-x: auto; font-size: 1.25rem; padding: 0.5rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.36rem 0.7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); font-size: 0.82rem; } td.n, th.n { text-align: right; }
td.words { white-space: normal; min-width: 12rem; color: var(--soft); }
tbody tr:hover { background: var(--tint); }
tr.bad, tr.bad:hover { background: var(--bad); } .flag { color: var(--bad-ink); font-weight: 600; }
.note, .warn, .bad-note { border-radius: 8px; padding: 0.5rem 0.8rem; margin: 0.5rem 0; font-size: 0.9rem; }
.note { background: var(--tint); } .warn { background: var(--warn); color: var(--warn-ink); }
.bad-note { background: var(--bad); color: var(--bad-ink); }
.note ul, .warn ul, .bad-note ul { margin: 0.2rem 0 0; padding-left: 1.1rem; }
.law { margin-top: 1rem; } .fit { border-top: 1px solid var(--line); margin-top: 1rem; padding-top: 0.9rem; }
.controls { display: flex; flex-wrap: wrap; gap: 0.6rem 0.8rem; align-items: end; margin: 0.6rem 0; }
.controls label { display: grid; gap: 0.15rem; font-size: 0.82rem; color: var(--soft); min-width: 0; }
.controls label.grow { flex: 1 1 14rem; } .controls select { max-width: 100%; }
.controls label.check { display: flex; align-items: center; gap: 0.4rem; padding: 0.45rem 0; font-size: 0.92rem; }
.controls input, .controls select { color: var(--ink); }
.budget { display: grid; gap: 0.2rem; margin: 0.8rem 0 0.4rem; } .budget label { font-weight: 600; }
input[type="range"] { width: 100%; padding: 0; accent-color: var(--accent); min-height: 1.8rem; }
.pick { background: var(--tint); border-radius: 8px; padding: 0.6rem 0.8rem; min-height: 4.4rem; }
.verdict { display: inline-flex; align-items: center; gap: 0.4rem; font-weight: 600; }
.verdict i { width: 0.7rem; height: 0.7rem; border-radius: 50%; flex: none; }
.below { margin-top: 0.9rem; } .apart { align-items: start; } .legend b { font-weight: 400; }
input, select, button { font: inherit; font-size: 0.92rem; color: inherit; background: var(--card); border: 1px solid
  var(--line);
  border-radius: 8px; padding: 0.4rem 0.7rem; } input { min-width: 0; } button { cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
#results thead th { position: sticky; top: 0; background: var(--card); padding: 0; }
#results thead button { border: 0; border-radius: 0; background: none; width: 100%; text-align: inherit; font-weight:
  600;
  font-size: 0.82rem; color: var(--soft); padding: 0.4rem 0.7rem; white-space: nowrap; }
#results thead [aria-sort] button { color: var(--accent); } #results .scroll { max-height: 34rem; overflow: auto; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size:
  0.86em; }
pre { overflow-x: auto; margin: 0.4rem 0; } td code { overflow-wrap: anywhere; white-space: normal; }
details > summary { cursor: pointer; color: var(--soft); margin: 0.4rem 0; }
footer { color: var(--soft); font-size: 0.88rem; padding-top: 2rem; padding-bottom: 3rem; }
@media (max-width: 40rem) { main, header.top, footer, nav ul { padding-left: 0.9rem; padding-right: 0.9rem; }
  .card { padding: 0.85rem 0.8rem; } th, td { padding: 0.34rem 0.5rem; } }
@media print { nav, .controls { display: none; } #results .scroll { max-height: none; } }
#vg-tooltip-element { font-family: inherit; }
"""
