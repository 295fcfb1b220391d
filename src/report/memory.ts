// The arena over time.
import type { MemoryCurve, RelayResult } from '../bench/results.ts';
import type { Measured } from './evidence.ts';
import { byPolicy, cite, type Figures, grid, swatchKey, trialsWith } from './figures.ts';
import { count, figure, listing, percent } from './format.ts';
import { details, type Html, html, table } from './html.ts';

const MOST_POINTS = 300; // about as many as a small chart has pixels

/** Fewer points of the same curve: of neighbours the one with the least room, so that no peak is lost. */
export function thin({ ms, used, padding, free }: MemoryCurve, most = MOST_POINTS): MemoryCurve {
  const width = Math.max(1, Math.ceil(ms.length / most));
  const kept: number[] = [];
  for (let begin = 0; begin < ms.length; begin += width) {
    let best = begin;
    for (let i = begin; i < Math.min(begin + width, ms.length); i++) if (free[i]! < free[best]!) best = i;
    kept.push(best);
  }
  const last = ms.length - 1;
  if (last >= 0 && kept.at(-1) !== last) kept.push(last);
  const pick = (values: readonly number[]) => kept.map((i) => values[i]!);
  return { ms: pick(ms), used: pick(used), padding: pick(padding), free: pick(free) };
}

export interface MemorySummary {
  readonly peak: number; // used + padding
  /** Means over time, of all slots. */
  readonly used: number;
  readonly padding: number;
  /** Mean of padding, of what is taken. */
  readonly padShare: number;
}

/** A point holds until the next one. */
export function summarize({ ms, used, padding, free }: MemoryCurve): MemorySummary {
  let [time, usedTime, paddingTime] = [0, 0, 0];
  for (let i = 0; i + 1 < ms.length; i++) {
    const passed = ms[i + 1]! - ms[i]!;
    time += passed;
    usedTime += used[i]! * passed;
    paddingTime += padding[i]! * passed;
  }
  const slots = (used[0] ?? 0) + (padding[0] ?? 0) + (free[0] ?? 0);
  return {
    peak: Math.max(0, ...used.map((one, i) => one + padding[i]!)),
    used: usedTime / (time * slots),
    padding: paddingTime / (time * slots),
    padShare: usedTime + paddingTime === 0 ? 0 : paddingTime / (usedTime + paddingTime),
  };
}

export function hasMemory(measured: readonly Measured<RelayResult>[]): boolean {
  return trialsWith(measured, 'memory').length > 0;
}

export function memorySection(measured: readonly Measured<RelayResult>[], figures: Figures): Html {
  const shown = trialsWith(measured, 'memory').map(({ source, group: unsorted }, i) => {
    const group = unsorted.toSorted((a, b) => byPolicy(a.contender, b.contender));
    const { workload, model, rows } = group[0]!;
    const title = `${workload}: ${model}, ${count(rows, 'row')}`;
    const mostMs = Math.max(...group.map(({ memory }) => memory!.ms.at(-1) ?? 0));
    const panels = group.map(({ contender, slots, memory }) => {
      const { ms, used, padding } = thin(memory!);
      const { peak, padShare } = summarize(memory!);
      return figures.place(
        {
          kind: 'memory',
          title: contender,
          tone: contender === 'relay' ? 'accent' : 3,
          slots,
          mostMs,
          ms,
          used,
          padding,
        },
        `Slots over time under ${contender}: at most ${figure(peak)} of ${figure(slots)}; ${percent(padShare)} padding`,
      );
    });
    const key = swatchKey([
      ['used', 'keys and values in use'],
      ['padding', 'padding'],
      ['free', 'free'],
    ]);
    const slots = [...new Set(group.map((result) => figure(result.slots)))];
    const content = html`<p class="what">${title}</p>
${grid(panels, html`Slots of the arena, ${listing(slots)} in all, over seconds. One round. ${cite(source)}`, key)}
${table(
  'Slots of the arena; means are over time',
  ['policy', 'all', 'most taken', 'mean in use', 'mean padding', 'padding of taken', 'slots moved'],
  group.map(({ contender, slots, memory, movedSlots }) => {
    const { peak, used, padding, padShare } = summarize(memory!);
    return [
      contender,
      figure(slots),
      figure(peak),
      percent(used),
      percent(padding),
      percent(padShare),
      figure(movedSlots),
    ];
  }),
)}`;
    return i === 0 ? content : details(title, content);
  });
  return html`<p>What the cache holds while the requests go through. The paper’s figure 8.</p>${shown}`;
}
