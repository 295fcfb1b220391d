import { addChunk, addDecode, emptyLoad, type StepLoad } from '../loop/step-time.ts';
import { MOVE_FIELDS, RUN_FIELDS, type StepPlan } from '../native.ts';

/** What a plan asks, as far as its time depends on it; from what the device sees of it. */
export function measureLoad({ runs, runCount, moves, moveCount }: StepPlan): StepLoad {
  const load = emptyLoad();
  for (let at = 0; at < runCount * RUN_FIELDS; at += RUN_FIELDS) {
    const position = runs[at + 3]!;
    const count = runs[at + 4]!;
    const draws = runs[at]! >= 0 ? 1 : 0;
    if (draws > 0) addDecode(load, position + count - 1);
    addChunk(load, position, count - draws); // the rest of a prompt that comes with a row's next token is a chunk
  }
  for (let at = 0; at < moveCount * MOVE_FIELDS; at += MOVE_FIELDS) load.movedSlots += moves[at + 2]!;
  return load;
}
