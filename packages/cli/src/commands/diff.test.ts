/** `weft diff` as people run it: the real command on files. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const weftBin = join(root, 'bin/weft.mjs');
const shop = 'examples/shop/mesh';

function weft(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [weftBin, ...args], { encoding: 'utf8', cwd: root });
  return { code: status, out: stdout, error: stderr };
}

test('two folders: exit code, places, requests that the rules suggest and those of mesh tests', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-diff-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(join(root, shop), folder, { recursive: true });
  const same = weft('diff', '-f', folder, '--base', shop, '--requests');
  assert.equal(same.code, 0, same.out + same.error);
  assert.match(same.out, /nothing is decided otherwise\n$/);

  const traffic = join(folder, 'traffic.yaml');
  writeFileSync(
    traffic,
    readFileSync(traffic, 'utf8').replace('weight: 95', 'weight: 50').replace('weight: 5\n', 'weight: 50\n'),
  );
  const { code, out } = weft('diff', '-f', folder, '--base', shop, '--requests', shop);
  assert.equal(code, 1);
  assert.match(out, /weight 95 → 50\n +examples\/shop\/mesh\/traffic\.yaml:48 .* → \S*traffic\.yaml:48 /);
  assert.match(out, /\n\d+ requests asked, [1-9]\d* go otherwise\n/);
  assert.match(out, /POST \/charge from [^\n]*\(the cart charges, and a canary gets 5 % of it\)\n/);
  assert.match(out, /destination +- 95 % [^\n]* stable → shop\/payment-v1, 5 % [^\n]* canary → shop\/payment-v2\n/);
  const json = JSON.parse(weft('diff', '-f', folder, '--base', shop, '-o', 'json').out) as {
    same: boolean;
    requests: null;
  };
  assert.deepEqual([json.same, json.requests], [false, null]);

  writeFileSync(traffic, 'kind: Nonsense\n');
  const refused = weft('diff', '-f', folder, '--base', shop);
  assert.equal(refused.code, 2);
  assert.match(refused.error, /^weft: .*traffic\.yaml:1/s);
});
