import { tableOf } from './bench.ts';
import type { RelayResult } from './results.ts';

/** What a person reads: each trial, then the workloads by contender, and the rows by contender. */
export function relayTables(results: readonly RelayResult[]): string {
  const groups = grouped(results, ({ workload, rows, capacity, rate }) =>
    JSON.stringify([workload, rows, capacity === undefined ? rate : 'capacity']),
  );
  const parts = [...groups.values()].map(describeTrial);
  const closed = results.filter(({ loop }) => loop === 'closed');
  for (const [rows, list] of grouped(closed, ({ rows }) => rows)) {
    const workloads = new Set(list.map(({ workload }) => workload));
    if (workloads.size < 2) continue;
    const cell = ({ seconds }: RelayResult) => seconds.median.toFixed(2);
    parts.push(`Seconds to finish, ${rows} rows\n${matrix(list, 'workload', cell)}`);
  }
  for (const [workload, list] of grouped(closed, ({ workload }) => workload)) {
    const rows = new Set(list.map(({ rows }) => rows));
    if (rows.size < 2) continue;
    const cell = ({ tokensPerSecond }: RelayResult) => tokensPerSecond.median.toFixed(0);
    parts.push(`Output tokens/s by rows, ${workload}\n${matrix(list, 'rows', cell)}`);
  }
  return parts.join('\n');
}

function describeTrial(results: readonly RelayResult[]): string {
  const { model, workload, rows, requests, rate, targets, slots, capacity } = results[0]!;
  const arriving = capacity !== undefined ? ', each at its capacity' : rate === undefined ? '' : `, ${rate} arriving/s`;
  const ttft = targets.ttftMs === null ? '' : `, TTFT ≤ ${targets.ttftMs.toFixed(0)} ms`;
  const good = `good: ITL ≤ ${targets.itlMs.toFixed(2)} ms${ttft}`;
  const head = ['contender', 's', 'requests/s', 'tokens/s', 'good/s', 'good', 'TTFT p50', 'p99', 'ITL p50', 'p99'];
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const lines = results.map((one) => [
    one.contender,
    number(one.seconds.median),
    number(one.requestsPerSecond.median),
    number(one.tokensPerSecond.median),
    number(one.goodPerSecond.median),
    percent(one.attainment.median),
    number(one.ttft.p50),
    number(one.ttft.p99),
    number(one.itl.p50),
    number(one.itl.p99),
    percent(one.idle.share),
    ...[one.idle.pad, one.idle.dead, one.idle.empty, one.idle.stall].map(percent),
    one.peakSlots,
    one.preemptions,
    ...(one.capacity === undefined ? [] : [number(one.capacity.requestsPerSecond)]),
  ]);
  const rest = ['idle', 'pad', 'dead', 'empty', 'stall', 'peak slots', 'preempted'];
  const all = [[...head, ...rest, ...(capacity === undefined ? [] : ['capacity/s'])], ...lines];
  const setting = `${model}, ${workload}${arriving}: ${requests} requests, ${rows} rows, ${slots} slots`;
  return `${setting}; ${good}\n${tableOf(all)}`;
}

/** A line for each value of `key`, a column for each contender. */
function matrix(results: readonly RelayResult[], key: 'workload' | 'rows', cell: (one: RelayResult) => string): string {
  const contenders = [...new Set(results.map(({ contender }) => contender))];
  const groups = [...grouped(results, (one) => one[key])];
  const lines = key === 'rows' ? groups.sort(([a], [b]) => Number(a) - Number(b)) : groups;
  const cells = lines.map(([name, list]) => [
    String(name),
    ...contenders.map((contender) => {
      const one = list.find((result) => result.contender === contender);
      return one === undefined ? '' : cell(one);
    }),
  ]);
  return tableOf([[key, ...contenders], ...cells]);
}

function grouped<Key>(results: readonly RelayResult[], keyOf: (one: RelayResult) => Key): Map<Key, RelayResult[]> {
  const groups = new Map<Key, RelayResult[]>();
  for (const one of results) {
    const key = keyOf(one);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [one]);
    else group.push(one);
  }
  return groups;
}

/** Three digits that count. */
function number(value: number): number {
  return Number(value.toPrecision(3));
}
