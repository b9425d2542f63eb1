"""The style sheet: light and dark, from a phone to paper, with fonts that are there.

The colours of data are Okabe and Ito's, which the colour-blind tell apart too.
"""

STYLE = """
:root {
  --paper: #fdfdfb; --ink: #1d1d1b; --soft: #63625d; --rule: #dedcd4;
  --first: #0072b2; --second: #c2560a; --heat: 0 114 178; --deep: .7;
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", Cambria, Georgia, serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #17181a; --ink: #e9e7e2; --soft: #a09e97; --rule: #37383c;
    --first: #62b8ea; --second: #e8a33d; --heat: 86 180 233; --deep: .46;
  }
}
* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.55 var(--serif);
}
main { max-width: 62rem; margin: 0 auto; padding: 3.5rem 1.25rem 5rem; }
h1, h2, h3 { font-weight: 600; line-height: 1.2; overflow-wrap: anywhere; }
h1 { font-size: clamp(1.75rem, 5vw, 2.5rem); margin: 0; letter-spacing: -.01em; }
h2 {
  font-size: 1.3125rem; margin: 0 0 .75rem; padding-top: .875rem;
  border-top: 1px solid var(--ink);
}
h3 { font-size: 1.0625rem; margin: 0; }
h3 span { color: var(--soft); font-style: italic; font-weight: 400; }
h3 span::after { content: " "; white-space: pre; }
section { margin-top: 3.5rem; }
p { margin: 0 0 1.25rem; max-width: 42rem; overflow-wrap: anywhere; }

.lead { margin: 1.5rem 0 0; display: flex; flex-wrap: wrap; align-items: baseline; }
.lead b {
  font-size: clamp(2.5rem, 9vw, 3.5rem); font-weight: 400; line-height: 1.1;
  letter-spacing: -.02em; margin-right: .75rem; font-variant-numeric: lining-nums;
}
.lead span { color: var(--soft); }
dl { margin: 1.5rem 0 0; display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; }
dt { font: .8125rem/1.5 var(--sans); color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }

figure { margin: 0; min-width: 0; }
figcaption { font: .875rem/1.5 var(--sans); margin-bottom: .25rem; }
.charts {
  display: grid; gap: 2rem 2.25rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr));
}
.strip { max-width: 24rem; margin-bottom: 1.25rem; }
.pair {
  display: grid; gap: 2rem 3rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr));
}
.pair figure { max-width: 24rem; }
.key { color: var(--soft); margin-left: .875rem; white-space: nowrap; }
.key i {
  display: inline-block; width: 1.125rem; height: 0; margin-right: .375rem;
  vertical-align: .25em; border-top: 2px solid;
}
i.line-0 { color: var(--first); }
i.line-1 { color: var(--second); border-top-width: 1px; }

svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text {
  font: 11px var(--sans); fill: var(--soft); font-variant-numeric: tabular-nums;
}
svg line { stroke: var(--soft); stroke-width: 1; }
svg .grid { stroke: var(--rule); }
svg .mark, svg .diagonal { stroke-dasharray: 3 3; }
svg .gap { stroke: var(--second); stroke-width: 2; }
svg .tick { stroke: var(--first); stroke-width: 1.5; opacity: .6; }
svg .bar { fill: var(--rule); }
svg polyline { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
svg polyline.line-0 { stroke: var(--first); }
svg polyline.line-1 { stroke: var(--second); stroke-width: 1; }
svg circle.line-0 { fill: var(--first); }
svg circle.line-1 { fill: var(--second); }

.box { overflow-x: auto; max-width: 100%; }
table {
  border-collapse: collapse; font: .875rem/1.4 var(--sans);
  font-variant-numeric: tabular-nums lining-nums;
}
th, td { padding: .4375rem 0 .4375rem 1.75rem; text-align: right; }
tr > :first-child {
  text-align: left; padding-left: 0; position: sticky; left: 0;
  background: var(--paper);
}
thead span { display: inline-block; width: max-content; max-width: 9rem; }
tbody th { min-width: 9rem; max-width: 20rem; overflow-wrap: anywhere; }
th { font-weight: 400; vertical-align: baseline; }
thead th { color: var(--soft); vertical-align: bottom; }
tbody tr { border-top: 1px solid var(--rule); }
td { vertical-align: baseline; white-space: nowrap; }
small { display: block; color: var(--soft); font-size: .8125rem; }
.narrow tbody th { min-width: 0; }
.heat tbody tr { border-color: transparent; }
.heat td, .heat th { padding: .5rem .875rem; }
.heat tbody th { min-width: 0; overflow-wrap: break-word; }
.heat tr > :first-child { padding-left: 0; }
.heat tbody th { vertical-align: middle; }
.heat td {
  background: rgb(var(--heat) / calc(var(--share) * var(--deep)));
  border: 2px solid var(--paper); min-width: 5.5rem;
}
.heat small { color: inherit; }

.legend {
  list-style: none; margin: 0 0 2rem; padding: 0; display: flex; flex-wrap: wrap;
  gap: .25rem 1.25rem; font: .875rem/1.5 var(--sans);
}
.legend i {
  display: inline-block; width: .875rem; height: .875rem; margin-right: .4375rem;
  vertical-align: -.0625rem; border: 1px solid var(--soft);
}
article + article { margin-top: 2.5rem; }
article p {
  color: var(--soft); font: .875rem/1.5 var(--sans); margin: .25rem 0 .75rem;
}
.pictures {
  display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(46%, 10.5rem), 1fr));
}
.pictures figcaption { color: var(--soft); margin: .25rem 0 0; }
.pictures img {
  display: block; width: 100%; height: auto;
  outline: 1px solid var(--rule); outline-offset: -1px;
}
.small { image-rendering: pixelated; }

@media (max-width: 30rem) {
  th, td { padding-left: .75rem; }
  tbody th { min-width: 6rem; max-width: 7.5rem; }
}
@media print {
  main { max-width: none; padding: 0; }
  figure, article, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""

# What the page of an inspection needs beyond that.
FINDINGS = """
:root { --wrong: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --wrong: #ff8a80; } }
h3 small { display: inline; font-weight: 400; }
article > h3 { margin-bottom: .5rem; }
.lines {
  list-style: none; margin: 0 0 1.25rem; padding: 0; overflow-wrap: anywhere;
  font: .875rem/1.45 var(--sans);
}
.lines li { padding: .3125rem 0 .3125rem .875rem; border-left: 3px solid var(--rule); }
.lines li + li { border-top: 1px solid var(--rule); }
.lines.error li { border-left-color: var(--wrong); }
.lines.warning li { border-left-color: var(--second); }
.words td { white-space: normal; min-width: 7rem; }
.choices td, .choices th { text-align: left; }
.choices td { overflow-wrap: anywhere; max-width: 24rem; }
.choices td + td { color: var(--soft); min-width: 12rem; }
.shares i {
  display: inline-block; width: .75rem; height: .75rem; margin-right: .4375rem;
  border: 1px solid var(--soft);
}
.shares tbody td {
  min-width: 8rem; padding-bottom: .75rem;
  background: linear-gradient(var(--first), var(--first)) right 0 bottom .3125rem
    / calc(var(--share) * .8) 3px no-repeat;
}
.box + p, .box + .charts, .charts + p { margin-top: 1.5rem; }
.examples {
  grid-template-columns: repeat(auto-fill, minmax(min(46%, 13rem), 1fr));
}
.pictures figcaption { overflow-wrap: anywhere; }
.pictures figcaption span { font-style: italic; }
svg .span { stroke: var(--first); opacity: .65; }
svg .span.odd { stroke: var(--second); opacity: 1; }
svg polyline.middle { stroke: var(--ink); stroke-width: 1.25; }
svg .size { fill: var(--first); fill-opacity: .45; stroke: var(--first); }
pre {
  margin: 0; padding: .75rem 1rem; background: rgb(var(--heat) / .08);
  font-size: .875rem; white-space: pre-wrap; overflow-wrap: anywhere;
}
pre + dl { margin-bottom: 1.5rem; }
@media (max-width: 30rem) {
  .shares tbody td { min-width: 5rem; }
  .words td { min-width: 5.5rem; }
}
"""
