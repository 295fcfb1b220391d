import type { Chart, PageData } from '../charts.ts';
import { wireCalculator } from './calculator.ts';
import { draw } from './charts.ts';
import { sampleOf } from './samples.ts';
import { wireTheme } from './theme.ts';

const data = JSON.parse(document.getElementById('data')!.textContent!) as PageData;

const observer = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) drawInto(target as HTMLElement, Math.floor(contentRect.width));
});

/** Anew where the width has changed; not at all where it is not shown, as in closed details. */
function drawInto(place: HTMLElement, width: number): void {
  if (width === 0 || place.dataset['width'] === String(width)) return;
  place.dataset['width'] = String(width);
  const chart: Chart | undefined = data.charts[Number(place.dataset['chart'])];
  if (chart !== undefined) place.replaceChildren(draw(chart, width));
}

for (const place of document.querySelectorAll<HTMLElement>('[data-chart]')) observer.observe(place);
for (const place of document.querySelectorAll<HTMLElement>('[data-sample]')) place.append(sampleOf(place.dataset));

wireTheme(document.getElementById('theme') as HTMLButtonElement);
const form = document.getElementById('calculator');
if (form !== null) wireCalculator(form as HTMLFormElement, data.speedups);
