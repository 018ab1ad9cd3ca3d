/** The engine, and what explains it, in a browser: bundled, they say in headless Chromium what they say here. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { vectors } from '../browser/vectors.ts';
import { debian } from '../install.ts';
import { type Suite, Tally } from '../suite.ts';

const CHROMIUM = '/usr/bin/chromium';
const SEED = 20_260_102;
const COUNT = { short: 300, full: 2000 };

export const suite: Suite = {
  name: 'browser',
  about: 'the engine and explain in headless Chromium give the answers that they give in Node',
  inShortForm: true,

  unavailable() {
    if (existsSync(CHROMIUM) || process.getuid?.() === 0) return undefined;
    return `${CHROMIUM} is not there, and only root may install it (apt-get install chromium)`;
  },

  async install() {
    debian({ chromium: 'chromium' });
  },

  async run(ctx) {
    const tally = new Tally();
    const count = ctx.short ? COUNT.short : COUNT.full;
    // Whatever needs Node does not resolve for a browser, and fails here.
    const { outputFiles } = await build({
      entryPoints: [join(import.meta.dirname, '../browser/vectors.ts')],
      bundle: true,
      platform: 'browser',
      format: 'iife',
      target: 'es2022',
      write: false,
      logLevel: 'silent',
    });
    const bundle = outputFiles[0].text;
    const browser = await chromium.launch({
      executablePath: CHROMIUM,
      // Its sandbox needs what root in a container has not; the page holds nothing but our own code.
      args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
    });
    ctx.cleanup(() => browser.close());
    const page = await browser.newPage();
    await page.addScriptTag({ content: bundle });
    const there = (await page.evaluate(`weftVectors(${count}, ${SEED})`)) as string[];
    const here = vectors(count, SEED);
    for (const [i, line] of here.entries())
      await tally.check(`vector ${i}`, () => {
        if (there[i] !== line)
          throw new Error(`Chromium says ${there[i]?.slice(0, 500)}; Node says ${line.slice(0, 500)}`);
      });
    tally.notes.push(`a bundle of ${Math.round(bundle.length / 1024)} KiB in Chromium ${browser.version()}`);
    return tally;
  },
};
