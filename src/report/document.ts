// The page: one file of HTML with its styles, script and data inside.
import { createHash } from 'node:crypto';
import type { Speedup } from './calculator.ts';
import type { PageData } from './charts.ts';
import type { Evidence, Source } from './evidence.ts';
import { Figures, unique } from './figures.ts';
import { headlines } from './headlines.ts';
import { embedJson, type Html, html, Html as Markup } from './html.ts';
import { kernelSection } from './kernels.ts';
import { hasMemory, memorySection } from './memory.ts';
import { agreementSection, peerSection } from './peers.ts';
import {
  capacitySection,
  finishSection,
  hasSizes,
  idleSection,
  latencySection,
  type Setting,
  settings,
  speedups,
  throughputSection,
} from './relay.ts';
import { scaleSection } from './scale.ts';
import { hasTimeline, timelineSection } from './timeline.ts';

/** What runs in the page, as built. */
export interface Assets {
  readonly script: string;
  readonly style: string;
}

/** A section, or the command that would make what it shows. */
interface Section {
  readonly id: string;
  readonly title: string;
  readonly command: string;
  readonly content: Html | undefined;
}

/** Runs before anything is drawn, so that the page never shows itself in the wrong colours. */
const THEME = `try{const t=localStorage.getItem('baton-theme');if(t)document.documentElement.dataset.theme=t}catch{}`;

/** What is filled with lines or dots stays apart without colour, on paper too. */
const PATTERNS = html`<svg class="patterns" width="0" height="0" aria-hidden="true"><defs>
<pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect class="hatch-ground" width="5" height="5"/><rect class="hatch-line" width="1.6" height="5"/></pattern>
<pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse">
<circle class="dot-mark" cx="2.5" cy="2.5" r="0.8"/></pattern>
</defs></svg>`;

export function documentOf(evidence: Evidence, { script, style }: Assets): string {
  const figures = new Figures();
  const ofRelay = settings(evidence.relay);
  const ratios = speedups(ofRelay);
  const sections = sectionsOf(evidence, ofRelay, figures, ratios);
  const shown = sections.filter(({ content }) => content !== undefined);
  const data: PageData = { charts: figures.charts, speedups: ratios };
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf(THEME)} ${hashOf(script)}`,
    `style-src ${hashOf(style)}`,
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  const days = unique(evidence.sources.map(({ date }) => date)).toSorted();
  const { text } = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Baton: what was measured</title>
<link rel="icon" href="data:,">
<script>${new Markup(THEME)}</script>
<style>${new Markup(style)}</style>
</head>
<body>
${PATTERNS}
<a class="skip" href="#main">To the figures</a>
<header>
<div class="top"><p class="name">Baton</p>
<button type="button" id="theme" aria-pressed="false">Dark</button></div>
<h1>What was measured</h1>
<p class="lead">Language models inside Node, with rows that are never idle. ${dayText(days)} Every figure on this page
comes from the ${evidence.sources.length === 1 ? 'file' : `${evidence.sources.length} files`} listed at
<a href="#sources">its end</a>, with the command that makes it again.</p>
<ul class="headlines">${headlines(evidence, ofRelay).map(
    ({ value, claim, detail, source }) => html`
<li><p class="value">${value}</p><p class="claim">${claim}</p><p class="detail">${detail}</p>
${provenance(source)}</li>`,
  )}</ul>
<nav aria-label="Sections"><ol>${shown.map(({ id, title }) => html`<li><a href="#${id}">${title}</a></li>`)}</ol></nav>
</header>
<main id="main">
<noscript><p>The charts need JavaScript. The tables beneath them have the same numbers.</p></noscript>
${shown.map(
  ({ id, title, content }) => html`<section id="${id}"><h2>${title}</h2>${content!}</section>
`,
)}
${missing(sections.filter(({ content }) => content === undefined))}
<section id="sources"><h2>Sources</h2><ol class="sources">${evidence.sources.map(
    (source) => html`
<li id="source-${source.id}">${provenance(source)}</li>`,
  )}</ol></section>
</main>
<footer><p>Charts: <a href="https://observablehq.com/plot">Observable Plot</a> (ISC). Nothing on this page is
loaded from elsewhere.</p></footer>
<script type="application/json" id="data">${embedJson(data)}</script>
<script>${new Markup(script)}</script>
</body>
</html>
`;
  return text;
}

function sectionsOf(
  { relay, kernels, peers, agreement, scale }: Evidence,
  ofRelay: readonly Setting[],
  figures: Figures,
  ratios: readonly Speedup[],
): Section[] {
  const closed = ofRelay.some((setting) => setting.closed.length > 0);
  const open = ofRelay.some((setting) => setting.open.length > 0);
  const ours = (flag: string) => `baton bench relay --${flag} --out ${flag}.json`;
  const section = (id: string, title: string, command: string, there: boolean, make: () => Html): Section => {
    return { id, title, command, content: there ? make() : undefined };
  };
  return [
    section('timeline', 'Rows over time', ours('timelines'), hasTimeline(relay), () => timelineSection(relay, figures)),
    section('finish', 'Time to finish', ours('tables'), closed, () => finishSection(ofRelay, figures)),
    section('throughput', 'Throughput by batch size', ours('tables'), hasSizes(ofRelay), () =>
      throughputSection(ofRelay, figures),
    ),
    section('idle', 'Idle computation', ours('tables'), relay.length > 0, () => idleSection(ofRelay, figures)),
    section('memory', 'Memory', ours('memory'), hasMemory(relay), () => memorySection(relay, figures)),
    section('latency', 'Latency', ours('tables'), relay.length > 0, () => latencySection(ofRelay, figures)),
    section('capacity', 'Capacity', ours('capacity'), open, () => capacitySection(ofRelay, figures)),
    section('peers', 'Other engines', 'baton bench peers --out peers.json', peers.length > 0, () =>
      peerSection(peers, figures),
    ),
    section(
      'agreement',
      'The same function',
      'baton bench peers --agreement --out agreement.json',
      agreement.length > 0,
      () => {
        return agreementSection(agreement);
      },
    ),
    section('kernels', 'Kernels', 'baton bench kernels --out kernels.json', kernels.length > 0, () => {
      return kernelSection(kernels, figures);
    }),
    section('scale', 'Scale', 'baton bench scale --out scale.json', scale.length > 0, () =>
      scaleSection(scale, figures),
    ),
    section('saving', 'What it would save', ours('tables'), ratios.length > 0, calculatorSection),
  ];
}

function dayText(days: readonly string[]): string {
  if (days.length === 0) return '';
  return days.length === 1 ? `Measured on ${days[0]!}.` : `Measured from ${days[0]!} to ${days.at(-1)!}.`;
}

/** All that somebody needs to doubt a figure. */
function provenance({ id, file, commit, date, machine, command, seed }: Source): Html {
  return html`<dl class="provenance">
<div><dt>file</dt><dd><a href="#source-${id}">${file}</a></dd></div>
<div><dt>commit</dt><dd><code>${commit}</code></dd></div>
<div><dt>date</dt><dd><time datetime="${date}">${date}</time></dd></div>
<div><dt>machine</dt><dd>${machine}</dd></div>
<div><dt>seed</dt><dd>${seed ?? 'none'}</dd></div>
<div><dt>command</dt><dd><code>${command}</code></dd></div>
</dl>`;
}

function missing(sections: readonly Section[]): Html {
  if (sections.length === 0) return html``;
  return html`<section id="missing"><h2>Not in these files</h2><ul>${sections.map(
    ({ title, command }) => html`<li>${title}: <code>${command}</code></li>`,
  )}</ul></section>`;
}

/** Filled by the script, which alone knows what was typed. */
function calculatorSection(): Html {
  return html`<p>The same work on fewer machines of the same kind, if the measured ratio of requests/s held for yours.
It is a
range that was measured here, on these workloads and this machine, with all requests waiting: an estimate, not a
promise.</p>
<form id="calculator">
<fieldset><legend>Paid now</legend>
<label class="choice"><input type="radio" name="kind" value="sum" checked> a monthly bill</label>
<label class="choice"><input type="radio" name="kind" value="instances"> instances × price</label>
<div class="field" data-for="sum"><label for="monthly">Bill per month</label>
<input id="monthly" type="number" inputmode="decimal" min="0" step="any" value="10000"></div>
<div class="field" data-for="instances"><label for="instances">Instances</label>
<input id="instances" type="number" inputmode="numeric" min="1" step="1" value="8"></div>
<div class="field" data-for="instances"><label for="price">Price of one per month</label>
<input id="price" type="number" inputmode="decimal" min="0" step="any" value="1500"></div>
</fieldset>
<fieldset><legend>Measured</legend>
<div class="field"><label for="setting">On</label><select id="setting"></select></div>
<div class="field"><label for="baseline">Against</label><select id="baseline"></select></div>
<div class="field"><label for="workload">Workload</label><select id="workload"></select></div>
</fieldset>
<output id="estimate" for="monthly instances price setting baseline workload" aria-live="polite"></output>
</form>`;
}

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
