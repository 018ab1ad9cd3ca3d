import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { bundle } from './bundle.ts';

function folder(t: { after(fn: () => void): void }): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'weft-bundle-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test('a proxy made one file starts, and is for its user alone', async (t) => {
  const dir = folder(t);
  const file = await bundle(path.join(import.meta.dirname, 'proxy-main.ts'), dir);
  assert.equal(file, path.join(dir, 'proxy-main.mjs'));
  assert.deepEqual(readdirSync(dir).sort(), ['proxy-main.mjs', 'proxy-main.mjs.map']);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  // What only a CA needs is not in it, what changes Node for every process is.
  const text = readFileSync(file, 'utf8');
  assert.ok(!text.includes('Pkcs10CertificateRequest'));
  assert.ok(text.includes('replaceGetters()'));
  const { WEFT_BOOTSTRAP: _, ...env } = process.env;
  const none = spawnSync(process.execPath, [file, 'proxy'], { encoding: 'utf8', env });
  assert.equal(none.status, 1);
  assert.match(none.stderr, /WEFT_BOOTSTRAP is not set/);
  // As far as it comes without a mesh: it reads its bootstrap, and says what is wrong with it.
  const bootstrap = path.join(dir, 'bootstrap.json');
  writeFileSync(bootstrap, '{"mesh":""}');
  const wrong = spawnSync(process.execPath, [file, 'proxy', '--mode', 'gateway'], {
    encoding: 'utf8',
    env: { ...env, WEFT_BOOTSTRAP: bootstrap },
  });
  assert.match(wrong.stderr, /mesh must be a string/);
});

test('a proxy that is started by hand runs by one file too, and leaves none', { timeout: 60_000 }, async (t) => {
  const dir = folder(t);
  const bootstrap = path.join(dir, 'bootstrap.json');
  const temporary = path.join(dir, 'tmp');
  mkdirSync(temporary);
  const free = { host: '127.0.0.1', port: 0 };
  writeFileSync(
    bootstrap,
    JSON.stringify({
      ...{ mesh: 'm', instance: 'a-0', workload: 'a', namespace: 'n', trustDomain: 't', address: '127.0.0.1' },
      ...{ bind: { outbound: free }, proxySecret: 's', services: path.join(dir, 'services.json') },
    }),
  );
  writeFileSync(path.join(dir, 'services.json'), '[]');
  const env = { ...process.env, WEFT_BOOTSTRAP: bootstrap, TMPDIR: temporary };
  const weft = path.join(import.meta.dirname, '../../../bin/weft.mjs');
  for (const sources of [false, true]) {
    const child = spawn(process.execPath, [weft, 'proxy', '--mode', 'plain', ...(sources ? ['--sources'] : [])], {
      env,
    });
    t.after(() => child.kill('SIGKILL'));
    for await (const chunk of child.stderr) if (String(chunk).includes('"ready"')) break;
    const pid = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim();
    const script = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      .split('\0')
      .find((a) => /\.m?[jt]s$/.test(a));
    assert.equal(path.basename(script!), sources ? 'main.ts' : 'proxy-main.mjs');
    assert.deepEqual(readdirSync(temporary), []);
    child.kill('SIGTERM');
    const [code] = await once(child, 'exit');
    assert.equal(code, 0);
  }
});

test('its system calls are found from the place that their file had', async (t) => {
  const dir = folder(t);
  // A way to the real package from an entry elsewhere.
  const entry = path.join(dir, 'entry.ts');
  const capture = path.join(import.meta.dirname, '../../capture/src/memory.ts');
  writeFileSync(entry, `import { trimMemory } from ${JSON.stringify(capture)};\nconsole.log(trimMemory());\n`);
  const file = await bundle(entry, dir);
  const said = execFileSync(process.execPath, [file!], { cwd: '/', encoding: 'utf8' }).trim();
  const fromSource = execFileSync(
    process.execPath,
    ['-e', `import(${JSON.stringify(capture)}).then((m) => console.log(m.trimMemory()))`],
    { encoding: 'utf8' },
  );
  assert.equal(said, fromSource.trim());
});

test('a place in it leads back to the source, with the names of functions', async (t) => {
  const dir = folder(t);
  const entry = path.join(dir, 'entry.ts');
  writeFileSync(
    entry,
    '// A comment.\ninterface Gone {\n  a: number;\n}\nexport function breaks(what: Gone): void {\n  throw new Error(String(what.a));\n}\nbreaks({ a: 42 });\n',
  );
  const file = (await bundle(entry, dir))!;
  const { stderr } = spawnSync(process.execPath, [file], { encoding: 'utf8' });
  const [, line, column] = /at breaks \(.*entry\.mjs:(\d+):(\d+)\)/.exec(stderr)!;
  const map = new SourceMap(JSON.parse(readFileSync(`${file}.map`, 'utf8')));
  const origin = map.findOrigin(Number(line), Number(column)) as { fileName: string; lineNumber: number };
  assert.deepEqual([path.basename(origin.fileName), origin.lineNumber], ['entry.ts', 6]);
});

test('where it cannot be made there is none, and nothing is left', async (t) => {
  const dir = folder(t);
  assert.equal(await bundle(path.join(dir, 'missing.ts'), dir), undefined);
  const entry = path.join(dir, 'entry.ts');
  writeFileSync(entry, 'console.log(1);\n');
  assert.equal(await bundle(entry, path.join(dir, 'no-folder')), undefined);
  assert.deepEqual(readdirSync(dir), ['entry.ts']);
});
