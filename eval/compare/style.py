"""The style sheet of the HTML page: light and dark, with no font or file from elsewhere."""

_COLOURS = 8

STYLE = """
:root { color-scheme: light dark; --paper: #fdfcfa; --card: #ffffff; --ink: #1c1917; --soft: #6b6560;
  --line: #e4e0da; --accent: #b4410e; --win: #0f766e; --loss: #be123c; --tie: #a8a29e; --warn: #fdf3dc;
  --c1: #b4410e; --c2: #1d4ed8; --c3: #0f766e; --c4: #7c3aed; --c5: #a16207; --c6: #be185d; --c7: #0369a1;
  --c8: #4d7c0f; }
@media (prefers-color-scheme: dark) { :root { --paper: #171412; --card: #201c19; --ink: #efebe6;
  --soft: #a8a099; --line: #38322d; --accent: #fb923c; --win: #2dd4bf; --loss: #fb7185; --tie: #78716c;
  --warn: #33291a; --c1: #fb923c; --c2: #7ea6ff; --c3: #2dd4bf; --c4: #b79bff; --c5: #facc15; --c6: #f472b6;
  --c7: #38bdf8; --c8: #a3e635; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1400px; margin: 0 auto; padding: 2rem clamp(1rem, 3vw, 2.5rem) 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 0; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
p { margin: .2rem 0 .8rem; } .soft, caption { color: var(--soft); } .small { font-size: .85rem; }
.notices { background: var(--warn); border-radius: 8px; padding: .7rem 1rem .7rem 2rem; margin: 1rem 0; }
.notices li { overflow-wrap: anywhere; }
.beside { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }
.beside > .card { flex: 1 1 240px; } .beside > .wide { flex: 5 1 780px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 1.2rem;
  margin-top: 1.2rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem;
  min-width: 0; max-width: 100%; }
.published { max-height: 24rem; overflow-y: auto; } .published td { padding-block: .18rem; }
.published h4 { margin: .7rem 0 0; font-size: .8rem; } .published thead { display: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .87rem; }
th, td { padding: .38rem .42rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); font-size: .8rem; }
tr:last-child td { border-bottom: 0; }
th.word, td.word { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7.5rem; }
th:first-child, td:first-child { padding-left: 0; } th:last-child, td:last-child { padding-right: 0; }
tr.baseline td { background: color-mix(in srgb, var(--line) 35%, transparent); }
td.best { font-weight: 700; }
.badge { display: inline-block; min-width: 1.45em; padding: 0 .3em; margin-right: .5em; border-radius: 1em;
  color: var(--card); background: var(--own); font-size: .75rem; font-weight: 700; text-align: center; }
.plot { width: 100%; height: auto; display: block; max-width: 560px; margin: 0 auto; }
.plot text { font-size: 11.5px; fill: var(--soft); text-anchor: middle; }
.plot text[text-anchor=end] { text-anchor: end; } .plot .title { fill: var(--ink); }
.plot .grid { stroke: var(--line); } .plot .diagonal { stroke: var(--soft); stroke-dasharray: 4 3; }
.plot .dot { fill: var(--own); stroke: var(--card); } .plot .number { fill: var(--own); font-weight: 700;
  font-size: 12px; }
.plot circle { fill-opacity: .65; } .plot .dot { fill-opacity: .8; } .plot circle:hover { stroke: var(--ink);
  fill-opacity: 1; }
.win { fill: var(--win); color: var(--win); } .loss { fill: var(--loss); color: var(--loss); }
.tie { fill: var(--tie); color: var(--soft); }
.moves { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; margin-top: .6rem; }
.moves ol { margin: 0; padding-left: 1.2rem; font-size: .82rem; } .moves li { overflow-wrap: anywhere; }
.moves h4 { margin: 0; font-size: .82rem; }
details { margin-top: .6rem; } summary { cursor: pointer; overflow-wrap: anywhere; }
pre { overflow-x: auto; font-size: .8rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: .8rem; margin: .4rem 0; }
""" + "\n".join(f".s{number} {{ --own: var(--c{number}); }}" for number in range(1, _COLOURS + 1))


def colour_class(number: int) -> str:
    """The class with the colour of a system, by the system's number; nine has the colour of one.

    >>> colour_class(1), colour_class(8), colour_class(9)
    ('s1', 's8', 's1')
    """
    return f"s{(number - 1) % _COLOURS + 1}"
