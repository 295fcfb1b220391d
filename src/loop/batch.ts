import type { Plan } from './plan.ts';
import type { Request } from './request.ts';

/** The requests now decoding, one per row. Rows stay dense: retiring moves the last row down. */
export class Batch {
  readonly rows: Request[] = [];

  constructor(
    readonly size: number,
    /** Of the next step: what befalls rows is noted there. */
    public plan: Plan,
  ) {}

  get length(): number {
    return this.rows.length;
  }

  get free(): number {
    return this.size - this.rows.length;
  }

  /** Gives a request the next row. The same tick must plan a run for it. */
  embed(request: Request): number {
    const row = this.rows.push(request) - 1;
    this.plan.start(row, request);
    return row;
  }

  retire(row: number): void {
    const last = this.rows.pop()!;
    const from = this.rows.length;
    if (row === from) return;
    this.rows[row] = last;
    this.plan.rowMove(from, row);
  }
}
