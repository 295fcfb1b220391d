// What a shared library for Linux says of itself, as far as it matters to whom it is shipped. 64 bits, little endian.

const PT = { load: 1, dynamic: 2, stack: 0x6474e551, relro: 0x6474e552 };
const DT = { needed: 1, strtab: 5, symtab: 6, rpath: 15, textrel: 22, bindNow: 24, runpath: 29, flags: 30 };
const DT_GNU = { hash: 0x6ffffef5, flags1: 0x6ffffffb, verneed: 0x6ffffffe, verneedCount: 0x6fffffff };
const MACHINES = new Map([[62, 'x64'], [183, 'arm64']]);
const EXECUTABLE = 1; // in a segment's flags

/**
 * Reads a library. Offsets are those in the file, for tests that damage it.
 *
 * @param {Buffer} bytes
 * @returns {import('./elf.mjs').Elf}
 */
export function readElf(bytes) {
  if (bytes.length < 64 || bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1) {
    throw new Error('expected a 64-bit little-endian ELF file');
  }
  const segments = Array.from({ length: bytes.readUInt16LE(56) }, (_, i) => {
    const at = Number(bytes.readBigUInt64LE(32)) + i * bytes.readUInt16LE(54);
    const word = (offset) => Number(bytes.readBigUInt64LE(at + offset));
    const [type, flags] = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4)];
    return { at, type, flags, offset: word(8), address: word(16), bytes: word(32) };
  });
  const place = (address) => {
    const segment = segments.find((one) => {
      return one.type === PT.load && address >= one.address && address < one.address + one.bytes;
    });
    if (segment === undefined) throw new Error(`expected an address in the file, got ${address}`);
    return address - segment.address + segment.offset;
  };
  const text = (at) => bytes.toString('latin1', at, bytes.indexOf(0, at));

  const dynamic = readDynamic(bytes, segments.find(({ type }) => type === PT.dynamic));
  const value = (tag) => dynamic.find((entry) => entry.tag === tag)?.value;
  const strings = place(value(DT.strtab));
  const named = (tag) => dynamic.filter((entry) => entry.tag === tag).map((entry) => text(strings + entry.value));
  const stack = segments.find(({ type }) => type === PT.stack);
  const flags = value(DT.flags) ?? 0;

  return {
    machine: MACHINES.get(bytes.readUInt16LE(18)) ?? `machine ${bytes.readUInt16LE(18)}`,
    shared: bytes.readUInt16LE(16) === 3,
    needed: named(DT.needed),
    runPaths: [...named(DT.rpath), ...named(DT.runpath)],
    versions: readVersions(bytes, place, value, (offset) => text(strings + offset)),
    exported: readExported(bytes, place, value, (offset) => text(strings + offset)),
    writesCode: value(DT.textrel) !== undefined || (flags & 4) !== 0,
    executableStack: stack === undefined || (stack.flags & EXECUTABLE) !== 0,
    relro: segments.some(({ type }) => type === PT.relro),
    bindNow: value(DT.bindNow) !== undefined || (flags & 8) !== 0 || ((value(DT_GNU.flags1) ?? 0) & 1) !== 0,
    dynamic,
    stackAt: stack?.at,
    symbolsAt: place(value(DT.symtab)),
  };
}

function readDynamic(bytes, { offset, bytes: size }) {
  const entries = [];
  for (let at = offset; at < offset + size; at += 16) {
    const tag = Number(bytes.readBigUInt64LE(at));
    if (tag === 0) break;
    entries.push({ at, tag, value: Number(bytes.readBigUInt64LE(at + 8)) });
  }
  return entries;
}

/** Versions of symbols that other libraries must have: GLIBC_2.34 and the like. */
function readVersions(bytes, place, value, text) {
  const versions = [];
  let library = value(DT_GNU.verneed) === undefined ? 0 : place(value(DT_GNU.verneed));
  for (let i = 0; i < (value(DT_GNU.verneedCount) ?? 0); i++) {
    let version = library + bytes.readUInt32LE(library + 8);
    for (let j = 0; j < bytes.readUInt16LE(library + 2); j++) {
      versions.push(text(bytes.readUInt32LE(version + 8)));
      version += bytes.readUInt32LE(version + 12);
    }
    library += bytes.readUInt32LE(library + 12);
  }
  return versions;
}

/** Symbols that other libraries could find. Their table has no length: the hash table knows its last one. */
function readExported(bytes, place, value, text) {
  const table = place(value(DT_GNU.hash));
  const [buckets, first, words] = [0, 4, 8].map((offset) => bytes.readUInt32LE(table + offset));
  const bucketsAt = table + 16 + words * 8;
  const chainsAt = bucketsAt + buckets * 4;
  let count = first;
  for (let i = 0; i < buckets; i++) {
    let last = bytes.readUInt32LE(bucketsAt + i * 4);
    if (last < first) continue; // an empty bucket
    while ((bytes.readUInt32LE(chainsAt + (last - first) * 4) & 1) === 0) last++;
    count = Math.max(count, last + 1);
  }
  const symbols = Array.from({ length: count }, (_, i) => place(value(DT.symtab)) + i * 24);
  const defined = symbols.filter((at) => bytes.readUInt16LE(at + 6) !== 0 && bytes[at + 4] >> 4 !== 0);
  return defined.map((at) => text(bytes.readUInt32LE(at)));
}
