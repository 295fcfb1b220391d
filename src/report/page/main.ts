import type { Chart, PageData } from '../charts.ts';
import { wireCalculator } from './calculator.ts';
import { draw } from './charts.ts';
import { sampleOf } from './samples.ts';
import { wireTheme } from './theme.ts';

const data = JSON.parse(document.getElementById('data')!.textContent!) as PageData;

const observer = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) drawInto(target as HTMLElement, Math.floor(contentRect.width));
});

const PAPER = { wide: 660, narrow: 315 }; // px that a page of A4 has room for, alone and two in a row

/** Anew where the width has changed; not at all where it is not shown, as in closed details. */
function drawInto(place: HTMLElement, width: number): void {
  if (width === 0 || place.dataset['width'] === String(width)) return;
  place.dataset['width'] = String(width);
  const chart: Chart | undefined = data.charts[Number(place.dataset['chart'])];
  if (chart !== undefined) place.replaceChildren(draw(chart, width));
}

const places = document.querySelectorAll<HTMLElement>('[data-chart]');
for (const place of places) observer.observe(place);

// Paper has a width of its own, which nobody is told of in time.
addEventListener('beforeprint', () => {
  for (const place of places) drawInto(place, place.closest('.timeline') === null ? PAPER.narrow : PAPER.wide);
});
addEventListener('afterprint', () => {
  for (const place of places) drawInto(place, Math.floor(place.getBoundingClientRect().width));
});

for (const place of document.querySelectorAll<HTMLElement>('[data-sample]')) place.append(sampleOf(place.dataset));

wireTheme(document.getElementById('theme') as HTMLButtonElement);
const form = document.getElementById('calculator');
if (form !== null) wireCalculator(form as HTMLFormElement, data.speedups);
