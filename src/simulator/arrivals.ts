import { EngineError } from '../errors.ts';
import type { TraceRequest } from './traces.ts';

/** When requests come. */
export interface Arrivals {
  /** Of the next one; Infinity while none is known to come. */
  readonly nextMs: number;
  take(): TraceRequest;
  /** A request has ended, or was turned away. */
  ended(ms: number): void;
}

/** Requests come when they say so. */
export function openLoop(requests: Iterable<TraceRequest>): Arrivals {
  const source = requests[Symbol.iterator]();
  let next = source.next();
  return {
    get nextMs() {
      return next.done === true ? Infinity : next.value.arrivalMs;
    },
    take() {
      const request = next.value as TraceRequest;
      next = source.next();
      if (next.done !== true && !(next.value.arrivalMs >= request.arrivalMs)) {
        const order = `${next.value.arrivalMs} after ${request.arrivalMs} ms`;
        throw new EngineError('INVALID_ARGUMENT', `requests: expected them in order of arrival, got ${order}`);
      }
      return request;
    },
    ended() {},
  };
}

/** So many clients, each of which sends its next request when its last has ended. */
export function closedLoop(requests: Iterable<TraceRequest>, clients: number): Arrivals {
  const source = requests[Symbol.iterator]();
  let next = source.next();
  const free = Array.from({ length: clients }, () => 0); // since when, in order; those before `first` are taken
  let first = 0;
  return {
    get nextMs() {
      return next.done === true ? Infinity : (free[first] ?? Infinity);
    },
    take() {
      const request = next.value as TraceRequest;
      next = source.next();
      if (++first === clients) {
        free.splice(0, first);
        first = 0;
      }
      return request;
    },
    ended(ms) {
      free.push(ms);
    },
  };
}
