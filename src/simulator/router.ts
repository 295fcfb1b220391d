import { EngineError } from '../errors.ts';
import type { TraceRequest } from './traces.ts';

/** What a router sees of a replica. */
export interface RoutedReplica {
  readonly rows: number;
  /** Requests that were sent there and have not ended. */
  readonly outstanding: number;
}

/** Decides which replica a request goes to, when it arrives. */
export interface Router {
  route(request: TraceRequest, replicas: readonly RoutedReplica[]): number;
}

class RoundRobin implements Router {
  #next = 0;

  route(_request: TraceRequest, replicas: readonly RoutedReplica[]): number {
    return this.#next++ % replicas.length;
  }
}

/** Where the fewest requests are outstanding; in turn among equals. */
class LeastQueued implements Router {
  #last = -1;

  route(_request: TraceRequest, replicas: readonly RoutedReplica[]): number {
    let best = (this.#last + 1) % replicas.length;
    for (let i = 2; i <= replicas.length; i++) {
      const other = (this.#last + i) % replicas.length;
      if (replicas[other]!.outstanding < replicas[best]!.outstanding) best = other;
    }
    this.#last = best;
    return best;
  }
}

// Of a prompt: a first line that all prompts begin with is no reason to send them all to one place.
const LEAST_SHARE = 0.5;
const IMBALANCE = 1.25; // of the mean: consistent hashing with bounded loads calls this 1 + epsilon
const REMEMBERED = 2 ** 18; // parts of prompts

/**
 * Where the longest beginning of its prompt was last, if that is half of it, unless it would have to wait there and
 * that replica has more than its share of what is outstanding; else where the fewest are.
 */
class PrefixAware implements Router {
  readonly #places = new Map<number, number>(); // replica by part of a prompt; the longest unused first
  readonly #otherwise = new LeastQueued();

  route(request: TraceRequest, replicas: readonly RoutedReplica[]): number {
    const { ids, tokens } = parts(request);
    const last = ids.findLastIndex((part) => this.#places.has(part));
    const near = (last + 1) * tokens >= LEAST_SHARE * request.promptTokens ? this.#places.get(ids[last]!) : undefined;
    const chosen = near !== undefined && takes(near, replicas) ? near : this.#otherwise.route(request, replicas);
    for (const part of ids) {
      this.#places.delete(part);
      this.#places.set(part, chosen);
    }
    for (const part of this.#places.keys()) {
      if (this.#places.size <= REMEMBERED) break;
      this.#places.delete(part);
    }
    return chosen;
  }
}

/** What a prompt begins with that others may begin with too. */
function parts({ blocks, prefix }: TraceRequest): { readonly ids: readonly number[]; readonly tokens: number } {
  if (blocks !== undefined) return blocks;
  return prefix === undefined ? { ids: [], tokens: 0 } : { ids: [prefix.id], tokens: prefix.tokens };
}

function takes(place: number, replicas: readonly RoutedReplica[]): boolean {
  const { outstanding, rows } = replicas[place]!;
  if (outstanding < rows) return true;
  const all = replicas.reduce((sum, replica) => sum + replica.outstanding, 0);
  return outstanding < (IMBALANCE * all) / replicas.length;
}

const ROUTERS = {
  'round-robin': (): Router => new RoundRobin(),
  'least-queued': (): Router => new LeastQueued(),
  'prefix-aware': (): Router => new PrefixAware(),
};

export type RouterName = keyof typeof ROUTERS;
export const ROUTER_NAMES = Object.keys(ROUTERS) as readonly RouterName[];

export function makeRouter(name: RouterName): Router {
  if (Object.hasOwn(ROUTERS, name)) return ROUTERS[name]();
  throw new EngineError('INVALID_OPTION', `router: expected ${ROUTER_NAMES.join(', ')}, got ${String(name)}`);
}
