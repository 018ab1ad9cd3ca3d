import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { answered, render } from './commands/proxy-canary.ts';
import { proxyProgram } from './proxy-program.ts';

test('the program of another installation, or of its one file, with its own version and flags', async (t) => {
  const base = mkdtempSync(path.join(tmpdir(), 'weft-program-'));
  t.after(() => rmSync(base, { recursive: true, force: true }));
  const other = path.join(base, 'other');
  const cli = path.join(other, 'packages/cli');
  mkdirSync(path.join(cli, 'src'), { recursive: true });
  writeFileSync(path.join(other, 'package.json'), '{"version":"9.8.7"}');
  writeFileSync(path.join(cli, 'proxy-flags.json'), '["--expose-gc"]');
  writeFileSync(path.join(cli, 'src/proxy-main.ts'), 'const said: string = "the other one";\nconsole.log(said);\n');
  const out = path.join(base, 'made');
  const program = await proxyProgram(out, other);
  assert.match(program.version, /^9\.8\.7\+[0-9a-f]{8}$/);
  const [node, ...args] = program.command;
  assert.ok(args.includes('--expose-gc') && args.includes(path.join(out, 'proxy-main.mjs')));
  assert.equal(spawnSync(node!, args, { encoding: 'utf8' }).stdout, 'the other one\n');

  // As a file: what runs is what it was, whatever becomes of the file.
  const copy = path.join(base, 'build');
  mkdirSync(copy);
  cpSync(path.join(out, 'proxy-main.mjs'), path.join(copy, 'proxy-main.mjs'));
  const hash = program.version.split('+')[1];
  for (const [n, given] of [copy, path.join(copy, 'proxy-main.mjs')].entries()) {
    const made = await proxyProgram(path.join(base, `made-${n}`), given);
    assert.equal(made.version, `0.0.0+${hash}`);
    assert.ok(made.command.includes(path.join(base, `made-${n}`, 'proxy-main.mjs')));
  }
  writeFileSync(path.join(copy, 'proxy-main.mjs'), '// another build\n');
  assert.notEqual((await proxyProgram(path.join(base, 'made-3'), copy)).version, `0.0.0+${hash}`);
  assert.ok(readFileSync(path.join(base, 'made-0/proxy-main.mjs'), 'utf8').includes('the other one'));

  await assert.rejects(proxyProgram(out, path.join(base, 'none')), /none does not exist/);
  await assert.rejects(proxyProgram(out, base), /holds no Weft: it is the folder of an installation/);
  symlinkSync(other, path.join(base, 'link'));
  assert.equal((await proxyProgram(out, path.join(base, 'link'))).version, program.version);
});

test('what each version answered, from the metrics of its proxies', () => {
  const line = (reporter: string, code: string, n: number) =>
    `istio_requests_total{reporter="${reporter}",source_app="a } b",response_code="${code}"} ${n}`;
  const metrics = [
    '# TYPE istio_requests_total counter',
    line('destination', '200', 90),
    line('destination', '503', 7),
  ];
  metrics.push(line('destination', '0', 3), line('destination', '404', 1), line('source', '503', 50), 'other{} 4');
  assert.deepEqual(answered(metrics.join('\n')), { requests: 101, failed: 10 });
  assert.deepEqual(answered(''), { requests: 0, failed: 0 });
  const status = {
    ...{ workload: 'shop/payment', version: '2.0.0+b', ownVersion: '1.0.0+a', percent: 10, instancesPercent: 50 },
    ...{ instances: ['payment-2'], ends: 0, because: '' },
  };
  const versions = [{ version: '2.0.0+b', instances: 1, proxyRestarts: 2, requests: 101, failed: 10 }];
  const text = render({ ...status, state: 'canary', versions });
  assert.match(
    text,
    /2\.0\.0\+b is tried for 10 % of what it gets \(1 instance, 50 % of them\); the others run 1\.0\.0\+a/,
  );
  assert.match(text, /2\.0\.0\+b +1 +2 +101 +10/);
  assert.match(
    render({ ...status, state: 'reverted', because: 'it ended', versions }),
    /was reverted \(it ended\), all run 1\.0\.0\+a/,
  );
});
