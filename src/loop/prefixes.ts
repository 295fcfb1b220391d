import { EngineError } from '../errors.ts';
import { type KvArena, type Span, TILE, tiled } from './arena.ts';
import type { KeptOwner, KeptSpan } from './kept-spans.ts';
import type { Request } from './request.ts';

// Waiting a step for fewer tokens than this delays a request by more than computing them would: docs/prefix-reuse.md.
const WORTH_WAITING = 16;

// Sources with as many chunks in common that are looked at: they differ by less than a chunk in what they offer.
const CANDIDATES = 8;

/** Tokens whose keys and values lie in the arena, or are about to: those of a request there, or of one that was. */
class Source implements KeptOwner {
  readonly salt: string;
  readonly tokens: readonly number[];
  /** What it is found by: one per chunk of its tokens, for all tokens up to the chunk's end. */
  readonly keys: number[] = [];
  /** And for all tokens but the last that it had at first, so that the same prompt finds it whole. */
  readonly end: number;
  endKey: number | undefined;
  turn = 0;
  /** Where it lies, once its request has left. */
  kept: KeptSpan | undefined;
  #left = 0; // slots of it, once its request has left

  constructor(
    /** Undefined once it has left. */
    public request: Request | undefined,
    salt: string,
    tokens: readonly number[],
    readonly onCut: (source: Source) => void,
  ) {
    this.salt = salt;
    this.tokens = tokens;
    this.end = tokens.length - 1;
  }

  /** Tokens of which the arena has keys and values; of those being drawn nobody knows which they are. */
  get computed(): number {
    return this.request === undefined ? this.#left : Math.min(this.request.computed, this.tokens.length);
  }

  /** Where its slots lie on the device when the next moves begin. */
  get home(): number {
    return this.request?.span?.home ?? this.kept?.offset ?? 0;
  }

  leave(): void {
    this.#left = this.computed;
    this.request = undefined;
  }

  cut(slots: number): void {
    this.#left = slots;
    this.onCut(this);
  }
}

/** What the sources offer a request. */
interface Offer {
  /** Who has the longest prefix that is computed, where it lies, and its tokens; 0 if there is none. */
  source: Source | undefined;
  home: number;
  ready: number;
  /** Who is computing a longer one right now, and up to which token that is worth waiting for. */
  coming: Source | undefined;
  awaited: number;
}

/**
 * Prefixes that need not be computed again: a request that begins like another, in the arena or gone, gets copies of
 * the other's slots. What a request leaves stays, unless it failed, until the arena needs the slots: it is in nobody's
 * way. Keys only lead to sources; what is copied has been compared token by token, and never crosses salts.
 */
export class Prefixes {
  readonly #sources = new Map<number, Set<Source>>(); // by key
  readonly #present = new Map<Request, Source>(); // of the requests in the arena
  readonly #waits = new Map<Request, { readonly source: Source; readonly tokens: number }>();
  readonly #onCut = (source: Source) => this.#index(source, source.computed);
  #turns = 0;
  #growth = 0; // slots that spans have lately come to need, after their admission

  constructor(readonly arena: KvArena) {}

  /** As the arena does. What others have computed of the request is computed then, or waited for in the pool. */
  allocate(request: Request, slots: number, wish: number): Span | undefined {
    const offer = this.#offer(request, true);
    const { source, ready, coming, awaited } = offer;
    const waits = awaited - ready >= WORTH_WAITING;
    const replaced = !waits && source?.kept !== undefined && ready === source.computed;
    if (replaced) source.turn = 0; // nobody needs both: its place may be taken before any other
    const soon = tiled(slots + 2 * this.#growth);
    const span = this.arena.allocate(request, slots, wish, soon);
    if (span === undefined) return undefined;
    if (waits && coming !== undefined) {
      this.#waits.set(request, { source: coming, tokens: awaited });
      request.following = true;
    } else if (this.#copy(request, span, offer) === ready && replaced) {
      this.#drop(source);
    }
    const present = new Source(request, request.cacheSalt, request.tokens, this.#onCut);
    this.#present.set(request, present);
    this.#index(present, request.tokens.length);
    return span;
  }

  /** Gives the span of a request back to the arena, which keeps what is computed until it needs the slots. */
  release(request: Request): void {
    const source = this.#present.get(request)!;
    this.#present.delete(request);
    this.#waits.delete(request);
    request.following = false;
    this.#growth += (request.length - 1 - source.end - this.#growth) / 16;
    source.leave();
    source.turn = ++this.#turns;
    if (request.error === undefined) source.kept = this.arena.keep(request.span!, source);
    else this.arena.release(request.span!);
    this.#index(source, source.kept === undefined ? 0 : source.computed);
  }

  /** Once per tick: ends the waits for what is there by now, or will not come because its request left or is held. */
  settle(): void {
    for (const [request, { source, tokens }] of this.#waits) {
      const { request: other } = source;
      if (other !== undefined && source.computed < tokens && advances(other)) continue;
      this.#waits.delete(request);
      request.following = false;
      this.#copy(request, request.span!, this.#offer(request, false)); // nobody waits twice
    }
  }

  /** Forgets what requests have left. */
  clear(): void {
    for (const level of [...this.#sources.values()]) {
      for (const source of level) if (source.kept !== undefined) this.#drop(source);
    }
  }

  owns(kept: KeptSpan): boolean {
    const { owner } = kept;
    return owner instanceof Source && owner.kept === kept && owner.request === undefined;
  }

  /** Throws unless exactly the requests in the arena are known as such, and who waits has computed nothing. */
  check(placed: readonly Request[]): void {
    if (this.#present.size !== placed.length || !placed.every((request) => this.#present.has(request))) {
      throw new EngineError('INTERNAL', `prefixes: ${this.#present.size} requests, and ${placed.length} in the arena`);
    }
    for (const request of placed) {
      if (request.following === this.#waits.has(request) && !(request.following && request.computed > 0)) continue;
      throw new EngineError('INTERNAL', `request ${request.id}: waits for a prefix, ${request.computed} computed`);
    }
    for (const source of new Set([...this.#sources.values()].flatMap((level) => [...level]))) {
      const { request, kept } = source;
      if (request === undefined ? kept !== undefined : this.#present.get(request) === source) continue;
      throw new EngineError('INTERNAL', `prefixes: one of ${source.tokens.length} tokens is neither present nor kept`);
    }
  }

  #copy(request: Request, span: Span, { home, ready }: Offer): number {
    if (ready === 0) return 0;
    const copied = this.arena.copy(home, span, ready);
    request.computed = copied;
    if (request.times.started === undefined) request.cachedTokens = Math.min(copied, request.promptLength);
    return copied;
  }

  #drop(source: Source): void {
    if (source.kept !== undefined) this.arena.drop(source.kept);
    this.#index(source, 0);
  }

  /** The longest prefix that sources have of all but the last token, which the request needs for its next. */
  #offer(request: Request, mayWait: boolean): Offer {
    const { tokens, cacheSalt } = request;
    const most = tokens.length - 1;
    const levels: Set<Source>[] = []; // by chunks in common
    let key = firstKey(cacheSalt);
    let at = 0;
    for (; at + TILE <= most; at += TILE) {
      key = nextKey(key, tokens, at, at + TILE);
      const level = this.#sources.get(key);
      if (level === undefined) break;
      levels.push(level);
    }
    const whole = at + TILE > most ? this.#sources.get(nextKey(key, tokens, at, most)) : undefined;
    if (whole !== undefined) levels.push(whole);

    const offer: Offer = { source: undefined, home: 0, ready: 0, coming: undefined, awaited: 0 };
    for (let level = levels.length - 1; level >= 0; level--) {
      // Who is only here, and not a level deeper, has less than a chunk more in common than all who are here.
      if (offer.coming !== undefined || offer.ready + 1 >= (level + 2) * TILE) break;
      let looked = 0;
      for (const source of levels[level]!) {
        if (source.salt !== cacheSalt || source.request === request) continue;
        this.#compare(request, source, most, mayWait, offer);
        if (++looked === CANDIDATES) break;
      }
    }
    return offer;
  }

  /** Adds to an offer what a source has in common with the first `most` tokens of a request. */
  #compare(request: Request, source: Source, most: number, mayWait: boolean, offer: Offer): void {
    const { tokens } = request;
    const last = Math.min(most, source.tokens.length);
    let common = 0;
    while (common < last && source.tokens[common] === tokens[common]) common++;
    const ready = Math.min(common, source.computed);
    if (ready > offer.ready) {
      offer.source = source;
      offer.home = source.home;
      offer.ready = ready;
    }
    // Its last token comes with its next, for which it may have to wait itself.
    const awaited = Math.min(common, source.tokens.length - 1);
    const { request: other } = source;
    if (!mayWait || awaited <= Math.max(offer.awaited, ready) || other === undefined) return;
    if (other.priority < request.priority || !advances(other)) return;
    offer.coming = source;
    offer.awaited = awaited;
  }

  /** Lets a source be found by its first `length` tokens, and by no more of them. */
  #index(source: Source, length: number): void {
    const { keys, tokens, end } = source;
    while (keys.length * TILE > length) this.#remove(keys.pop()!, source);
    let key = keys[keys.length - 1] ?? firstKey(source.salt);
    for (let at = keys.length * TILE; at + TILE <= length; at += TILE) {
      key = nextKey(key, tokens, at, at + TILE);
      keys.push(key);
      this.#add(key, source);
    }
    if (source.endKey !== undefined && end > length) {
      this.#remove(source.endKey, source);
      source.endKey = undefined;
    } else if (source.request !== undefined && end % TILE > 0) {
      const chunks = Math.floor(end / TILE);
      source.endKey = nextKey(keys[chunks - 1] ?? firstKey(source.salt), tokens, chunks * TILE, end);
      this.#add(source.endKey, source);
    }
    if (length === 0) source.kept = undefined;
  }

  #add(key: number, source: Source): void {
    const level = this.#sources.get(key);
    if (level === undefined) this.#sources.set(key, new Set([source]));
    else level.add(source);
  }

  #remove(key: number, source: Source): void {
    const level = this.#sources.get(key);
    level?.delete(source);
    if (level?.size === 0) this.#sources.delete(key);
  }
}

/** Whether it is computed as soon as its turn comes. */
function advances(request: Request): boolean {
  return !request.finished && (request.following || !request.held);
}

function firstKey(salt: string): number {
  let key = 0;
  for (let i = 0; i < salt.length; i++) key = mix(key, salt.charCodeAt(i));
  return key;
}

/** The key of all tokens up to `end`, from that of those up to `begin`. */
function nextKey(key: number, tokens: readonly number[], begin: number, end: number): number {
  let next = mix(key, end - begin);
  for (let i = begin; i < end; i++) next = mix(next, tokens[i]!);
  return next;
}

function mix(key: number, value: number): number {
  const mixed = Math.imul(key ^ value, 0x9e3779b1);
  return mixed ^ (mixed >>> 15);
}
