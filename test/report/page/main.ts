// Timeout: 300 s
// The page in a real browser.
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type ConsoleMessage, type Page } from 'playwright-core';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Bill, combine, estimate, money } from '../../../src/report/calculator.ts';
import { collect } from '../../../src/report/evidence.ts';
import { percent, range, times } from '../../../src/report/format.ts';
import { settings, speedups } from '../../../src/report/relay.ts';
import { panelOf } from '../../../src/report/timeline.ts';
import { pageOf, serve } from '../fake/page.ts';
import { CONTENDERS, kernelRecord, PEERS, peerRecord, relayRecord, scaleRecord, WORKLOADS } from '../fake/records.ts';

const page = suite('Page');

const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome'];
const PHONE = { width: 360, height: 740 };
const DESKTOP = { width: 1280, height: 900 };

function findBrowser(): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  return folders
    .flatMap((folder) => BROWSERS.map((name) => join(folder, name)))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

const executablePath = findBrowser();
const test = (name: string, run: () => Promise<void>): void => {
  if (executablePath !== undefined) return void page(name, run);
  page.skip(name);
  console.log(`SKIP ${name}: none of ${BROWSERS.join(', ')} is installed`);
};

const relay = relayRecord();
const address = serve('whole.html', pageOf(relay, kernelRecord(), peerRecord(), scaleRecord()));
let browser: Browser | undefined;

page.before(async () => {
  if (executablePath !== undefined) browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
});
page.after(async () => browser?.close());

interface Opened {
  readonly view: Page;
  /** What went wrong, or out, while the page was open. */
  readonly troubles: readonly string[];
}

async function opened(
  options: BrowserContextOptions,
  use: (opened: Opened) => Promise<void>,
  url = address,
): Promise<void> {
  const context = await browser!.newContext(options);
  try {
    const view = await context.newPage();
    await view.addInitScript('globalThis.__name = (value) => value'); // tsx wraps every function in it
    const troubles: string[] = [];
    view.on('console', (message: ConsoleMessage) => troubles.push(`${message.type()}: ${message.text()}`));
    view.on('pageerror', (error) => troubles.push(error.message));
    view.on('request', (request) => request.url() !== url && troubles.push(`request: ${request.url()}`));
    await view.goto(url);
    await drawn(view);
    await use({ view, troubles });
  } finally {
    await context.close();
  }
}

/** Until every chart that is not in closed details is there. */
async function drawn(view: Page): Promise<void> {
  await view.waitForFunction(() =>
    [...document.querySelectorAll('[data-chart]')].every((place) => {
      return place.closest('details:not([open])') !== null || place.querySelector('svg') !== null;
    }),
  );
}

for (const viewport of [PHONE, DESKTOP]) {
  for (const colorScheme of ['light', 'dark'] as const) {
    test(`draws every chart at ${viewport.width} px, ${colorScheme}, in its own width and silently`, async () => {
      await opened({ viewport, colorScheme }, async ({ view, troubles }) => {
        await view.evaluate(() => document.querySelectorAll('details').forEach((one) => (one.open = true)));
        await drawn(view);
        const found = await view.evaluate(() => {
          const places = [...document.querySelectorAll<HTMLElement>('[data-chart]')];
          return {
            empty: places
              .filter((place) => place.querySelectorAll('rect, path, circle').length === 0)
              .map((place) => place.ariaLabel),
            wide: places.filter((place) => {
              return Math.abs(place.querySelector('svg')!.getBoundingClientRect().width - place.clientWidth) > 1;
            }).length,
            broken: places
              .filter((place) => /NaN|undefined|Infinity/.test(place.innerHTML))
              .map((place) => place.ariaLabel),
            samples: [...document.querySelectorAll('[data-sample]')].filter(
              (one) => one.querySelector('svg > *') === null,
            ).length,
            scroll: document.documentElement.scrollWidth,
            page: document.documentElement.clientWidth,
          };
        });
        assert.equal(found, {
          empty: [],
          wide: 0,
          broken: [],
          samples: 0,
          scroll: viewport.width,
          page: viewport.width,
        });
        assert.equal(troubles, []);
      });
    });

    test(`has no text that is hard to read at ${viewport.width} px, ${colorScheme}`, async () => {
      await opened({ viewport, colorScheme }, async ({ view }) => assert.equal(await view.evaluate(faintTexts), []));
    });
  }
}

/** Runs in the page: texts whose contrast with what lies behind them is below 4.5, or 3 where they are large. */
function faintTexts(): string[] {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true })!;
  const pixel = (colour: string): number[] => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour: string): number => {
    const [r = 0, g = 0, b = 0] = pixel(colour).map((one) => {
      const value = one / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element: Element | null): string => {
    for (let one = element; one !== null; one = one.parentElement) {
      const { backgroundColor } = getComputedStyle(one);
      if (pixel(backgroundColor)[3] === 255) return backgroundColor;
    }
    return 'white';
  };
  const faint: string[] = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement!;
    const text = walker.currentNode.textContent!.trim();
    if (
      text === '' ||
      element.closest('script, title, noscript, .skip') !== null ||
      element.getClientRects().length === 0
    )
      continue;
    const style = getComputedStyle(element);
    const [one, other] = [
      luminance(element instanceof SVGElement ? style.fill : style.color),
      luminance(behind(element)),
    ];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) faint.push(`${contrast.toFixed(2)}: ${text}`);
  }
  return faint;
}

test('draws as many series as the files have', async () => {
  await opened({ viewport: DESKTOP }, async ({ view }) => {
    const counts = (selector: string, part: string) =>
      view
        .locator(selector)
        .evaluateAll((places, inner) => places.map((place) => place.querySelectorAll(inner).length), part);
    const bars = await counts('#finish [data-chart]', '[aria-label=bar] rect');
    assert.equal(
      bars,
      WORKLOADS.map(() => CONTENDERS.length),
    );
    const lines = await counts('#throughput [data-chart]', '[aria-label=line] path');
    assert.equal(
      lines,
      WORKLOADS.map(() => CONTENDERS.length),
    );
    assert.equal(await counts('#peers [data-chart]', '[aria-label=line] path'), [PEERS.length, PEERS.length]);
    assert.is((await counts('#memory [data-chart]', '[aria-label=area] path')).length, CONTENDERS.length);
    const accents = await counts('#finish [data-chart]', '[aria-label=bar] rect[fill="var(--accent)"]');
    assert.equal(
      accents,
      WORKLOADS.map(() => 1),
      'relay alone has the accent',
    );
  });
});

test('draws the timeline of static above that of relay, on one scale', async () => {
  await opened({ viewport: DESKTOP }, async ({ view }) => {
    const traced = ['static', 'relay'].map((name) => {
      const { rows, timeline } = relay.results.find((one) => one.contender === name && one.timeline !== undefined)!;
      return panelOf(name, rows, timeline!);
    });
    const found = await view.locator('#timeline .rows .panel').evaluateAll((panels) =>
      panels.map((panel) => ({
        name: panel.querySelector('.panel-name')!.textContent,
        requests: panel.querySelectorAll('.request').length,
        finished: panel.querySelectorAll('.finished').length,
        chunks: panel.querySelectorAll('.chunk').length,
        width: panel.querySelector('.vacant')!.getBoundingClientRect().width,
        colours: new Set([...panel.querySelectorAll('.request')].map((one) => getComputedStyle(one).fill)).size,
      })),
    );
    const expected = traced.map(({ name, runs, chunks }) => ({
      name,
      requests: runs.filter(([, , , , finished]) => finished === 0).length,
      finished: runs.filter(([, , , , finished]) => finished === 1).length,
      chunks: chunks.length,
    }));
    assert.equal(
      found.map(({ width: _, colours: __, ...rest }) => rest),
      expected,
    );
    const requests = new Set(traced[1]!.runs.map(([, , , request]) => request)).size;
    assert.equal(
      found.map(({ colours }) => colours),
      [requests, requests],
      'a colour for each request',
    );
    assert.ok(Math.abs(found[1]!.width / found[0]!.width - traced[1]!.ms / traced[0]!.ms) < 0.01);
    assert.match(
      await view.locator('#timeline figcaption').innerText(),
      /static: 64 requests in .* s and [\d,]+ steps/,
    );
  });
});

test('computes in the calculator what the function computes, whatever is chosen', async () => {
  const all = speedups(settings(collect([{ file: 'x.json', content: JSON.stringify(relay) }]).relay));
  await opened({ viewport: DESKTOP }, async ({ view, troubles }) => {
    const shows = async (bill: Bill, setting: string, baseline: string, workload: string) => {
      const chosen = all.filter((one) => {
        return (
          one.setting === setting && one.contender === baseline && (workload === 'all' || one.workload === workload)
        );
      });
      const ratio = combine(chosen.map((one) => one.ratio));
      const { saving, share, instances } = estimate(bill, ratio);
      const text = await view.locator('#estimate').innerText();
      assert.is(await view.locator('#estimate .value').innerText(), money(saving.median));
      assert.ok(
        text.includes(
          `From ${money(saving.least)} to ${money(saving.most)}: ${range(share.least, share.most, percent)}`,
        ),
        text,
      );
      assert.ok(text.includes(`${times(ratio.median)} the work of ${baseline}`), text);
      if (instances !== undefined)
        assert.ok(text.includes(`${range(instances.least, instances.most, String)}, whole`), text);
    };
    const first = all[0]!.setting;
    await shows({ kind: 'sum', monthly: 10_000 }, first, 'static', 'all');
    await view.fill('#monthly', '250000.5');
    await shows({ kind: 'sum', monthly: 250_000.5 }, first, 'static', 'all');
    await view.selectOption('#workload', 'code');
    await view.selectOption('#baseline', 'orca');
    await shows({ kind: 'sum', monthly: 250_000.5 }, first, 'orca', 'code');
    const other = all.at(-1)!.setting;
    await view.selectOption('#setting', other);
    await view.check('input[value=instances]');
    await view.fill('#instances', '13');
    await view.fill('#price', '900');
    await shows({ kind: 'instances', instances: 13, monthlyPrice: 900 }, other, 'orca', 'code');
    assert.equal([await view.isVisible('#monthly'), await view.isVisible('#price')], [false, true]);
    await view.fill('#price', '');
    assert.match(await view.locator('#estimate').innerText(), /^Expected a number/);
    assert.equal(troubles, []);
  });
});

test('turns to the other theme, and remembers', async () => {
  await opened({ viewport: PHONE, colorScheme: 'light' }, async ({ view }) => {
    const look = () => view.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const pressed = () => view.getAttribute('#theme', 'aria-pressed');
    const light = await look();
    assert.is(await pressed(), 'false');
    await view.click('#theme');
    const dark = await look();
    assert.is.not(dark, light);
    assert.is(await pressed(), 'true');
    // Another process may show the page then, and the browser brings it what was stored in its own time.
    for (let tries = 0; tries < 50 && (tries === 0 || (await look()) !== dark); tries++) await view.reload();
    assert.equal([await look(), await pressed()], [dark, 'true']);
    await view.emulateMedia({ media: 'print' });
    assert.is(await look(), 'rgb(255, 255, 255)', 'paper is white in either');
    await view.emulateMedia({ media: 'screen', colorScheme: 'dark' });
    await view.click('#theme');
    assert.is(await look(), light);
  });
});

test('follows the theme of the system until it is told otherwise', async () => {
  await opened({ viewport: PHONE, colorScheme: 'dark' }, async ({ view }) => {
    assert.is(await view.getAttribute('#theme', 'aria-pressed'), 'true');
    await view.emulateMedia({ colorScheme: 'light' });
    await view.waitForSelector('#theme[aria-pressed=false]');
  });
});

test('is drawn for paper when it is printed, and for the screen again', async () => {
  await opened({ viewport: DESKTOP }, async ({ view, troubles }) => {
    const widths = () =>
      view
        .locator('[data-chart]:visible svg')
        .evaluateAll((all) => all.map((one) => Number(one.getAttribute('width'))));
    const before = await widths();
    await view.evaluate(() => dispatchEvent(new Event('beforeprint')));
    assert.ok((await widths()).every((width) => width <= 660));
    await view.evaluate(() => dispatchEvent(new Event('afterprint')));
    assert.equal(await widths(), before);
    const pdf = (await view.pdf({ format: 'A4' })).toString('latin1');
    assert.match(pdf, /^%PDF/);
    assert.ok((pdf.match(/\/Type\s*\/Page\b/g) ?? []).length >= 2);
    assert.equal(troubles, []);
  });
});

test('says what it is to who cannot see it', async () => {
  await opened({ viewport: PHONE }, async ({ view }) => {
    const found = await view.evaluate(() => {
      const named = (one: Element) => (one.getAttribute('aria-label') ?? '').length > 10;
      const labelled = (one: Element) => (one as HTMLInputElement).labels?.length === 1;
      const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
      const anchors = [...document.querySelectorAll<HTMLAnchorElement>('a[href^="#"]')];
      return {
        lang: document.documentElement.lang,
        title: document.title,
        headings: [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(({ tagName }) => Number(tagName[1])),
        images: [...document.querySelectorAll('[role=img]')].filter((one) => !named(one)).length,
        inputs: [...document.querySelectorAll('input, select')].filter((one) => !labelled(one)).length,
        twice: ids.filter((id, i) => ids.indexOf(id) !== i),
        nowhere: anchors.filter(({ hash }) => document.getElementById(hash.slice(1)) === null).length,
        small: [...document.querySelectorAll('button, input:not([type=radio]), select, summary')].filter((one) => {
          const { width, height } = one.getBoundingClientRect();
          return width > 0 && (width < 24 || height < 24);
        }).length,
      };
    });
    const { headings, ...rest } = found;
    assert.equal(rest, {
      lang: 'en',
      title: 'Baton: what was measured',
      images: 0,
      inputs: 0,
      twice: [],
      nowhere: 0,
      small: 0,
    });
    assert.equal([headings[0], headings.filter((level) => level === 1).length], [1, 1]);
    for (const [i, level] of headings.entries()) assert.ok(level <= (headings[i - 1] ?? 0) + 1, `${headings}`);
  });
});

test('has its figures in tables where scripts do not run', async () => {
  const context = await browser!.newContext({ javaScriptEnabled: false });
  const view = await context.newPage();
  await view.goto(address);
  assert.ok(await view.isVisible('#finish table'));
  assert.match(await view.innerText('noscript'), /tables/);
  await context.close();
});

test('runs nothing that a file holds', async () => {
  const hostile = `</script><img src=x onerror="console.log('ran')"><script>console.log('ran')</script>`;
  const results = relay.results.map((one) => ({ ...one, model: hostile, contender: `${one.contender}${hostile}` }));
  const url = serve('hostile.html', pageOf({ ...relay, machine: hostile, results }));
  await opened(
    { viewport: PHONE },
    async ({ view, troubles }) => {
      assert.equal(troubles, []);
      assert.is(await view.evaluate(() => document.documentElement.scrollWidth), PHONE.width);
    },
    url,
  );
});

test('stands with one file alone, and with figures that are missing', async () => {
  const results = relay.results.map((one) => ({
    ...one,
    seconds: { median: NaN, least: NaN, most: NaN },
    decodeMs: NaN,
    itl: { mean: NaN, p50: NaN, p90: NaN, p99: NaN },
  }));
  for (const record of [
    kernelRecord(),
    peerRecord(),
    scaleRecord(),
    { ...relay, results },
    { ...relay, results: [] },
  ]) {
    await opened(
      { viewport: PHONE },
      async ({ view, troubles }) => {
        assert.equal(troubles, [], record.experiment);
        assert.ok(await view.isVisible('#missing'));
      },
      serve(`${record.experiment}.html`, pageOf(record)),
    );
  }
});

page.run();
