import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { addonPath, loadAddon, openAddon } from '../src/addon.ts';
import { EngineError } from '../src/errors.ts';

const addon = suite('addon');
const home = mkdtempSync(join(tmpdir(), 'baton-addon-'));
addon.after(() => rmSync(home, { recursive: true }));

let folders = 0;

/** A package folder with these files. */
function makePackage(files: Readonly<Record<string, string | Buffer>>): string {
  const folder = `${join(home, String(folders++))}/`;
  mkdirSync(folder);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

function missing(folder: string, ...messages: RegExp[]): void {
  assert.throws(
    () => openAddon(folder),
    (error: EngineError) => {
      assert.is(error.code, 'ADDON_MISSING');
      for (const message of [/npx cmake-js build/, ...messages]) assert.match(error.message, message);
      assert.ok(error.cause instanceof Error);
      return true;
    },
  );
}

addon('is loaded once, and says its version and commit', () => {
  assert.is(loadAddon(), loadAddon());
  assert.match(loadAddon().version, /^\d+\.\d+\.\d+/);
  assert.match(loadAddon().commit, /^([0-9a-f]{7,}|unknown)$/);
  assert.match(addonPath(), /\.node$/);
});

addon('tells what the processor can do', () => {
  const { isas, cores, model } = loadAddon().cpu();
  assert.is(isas.at(-1), 'scalar');
  assert.ok(cores >= 1);
  assert.ok(model.length > 0);
});

addon('is found among the prebuilds, behind a build', () => {
  const folder = makePackage({});
  const prebuilds = join(folder, 'prebuilds', `${process.platform}-${process.arch}`);
  mkdirSync(prebuilds, { recursive: true });
  copyFileSync(addonPath(), join(prebuilds, 'baton.node'));
  assert.is(openAddon(folder).path, join(prebuilds, 'baton.node'));
  mkdirSync(join(folder, 'build/Release'), { recursive: true });
  copyFileSync(addonPath(), join(folder, 'build/Release/baton.node'));
  assert.is(openAddon(folder).path, join(folder, 'build/Release/baton.node'));
});

addon('that is not there: the error says where it was looked for and how to build it', () => {
  const folder = makePackage({});
  missing(
    folder,
    new RegExp(`${folder}build/Release/\\*\\.node`),
    new RegExp(`prebuilds/${process.platform}-${process.arch}`),
  );
});

addon('that does not load: the error names the file and the reason', () => {
  missing(
    makePackage({ 'build/Release/baton.node': 'no addon' }),
    /build\/Release\/baton\.node/,
    /ELF|invalid|too short|not a/i,
  );
});

addon.run();
