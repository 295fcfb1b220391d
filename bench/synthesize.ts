// Random weights in a public shape: npm run bench -- synthesize SmolLM2-135M FOLDER --type bf16 --seed 1
import { parseArgs } from 'node:util';
import { SHAPES, type ShapeName } from '../src/bench/shapes.ts';
import { synthesize } from '../src/bench/synthesize.ts';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { type: { type: 'string', default: 'bf16' }, seed: { type: 'string', default: '1' } },
});
const [shape, folder] = positionals;
const { type } = values;
const seed = Number(values.seed);
if (shape === undefined || !Object.hasOwn(SHAPES, shape) || folder === undefined) {
  const shapes = Object.keys(SHAPES).join(', ');
  throw new Error(`usage: synthesize SHAPE FOLDER [--type bf16|f32] [--seed 1]; shapes: ${shapes}`);
}
if (type !== 'bf16' && type !== 'f32') throw new Error(`--type: expected bf16 or f32, got ${type}`);
if (!Number.isSafeInteger(seed)) throw new Error(`--seed: expected an integer, got ${values.seed}`);
await synthesize(folder, shape as ShapeName, { seed, type });
