/** The command line against a running mesh: what it prints, its exit codes, and what it refuses in one line. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { isRoot, meshOf, peers, type Row, type TestMesh, weftBin } from './harness.ts';

interface Ran {
  code: number | null;
  out: string;
  error: string;
}

function weft(mesh: TestMesh, ...args: string[]): Ran {
  const { status, stdout, stderr } = spawnSync(process.execPath, [weftBin, ...args], {
    env: { ...mesh.env, WEFT_MESH: mesh.name },
    encoding: 'utf8',
    cwd: mesh.folder,
  });
  return { code: status, out: stdout, error: stderr };
}

/** Exit code 1 (2: it was called wrongly), nothing on standard output, one line on standard error. */
function refuses(mesh: TestMesh, args: string[], pattern: RegExp, wanted: 1 | 2 = 1): void {
  const { code, out, error } = weft(mesh, ...args);
  assert.equal(code, wanted, args.join(' '));
  assert.equal(out, '');
  assert.match(error, /^weft: [^\n]+\n$/, args.join(' '));
  assert.match(error, pattern);
}

const BATCH = `
apiVersion: weft.dev/v1alpha1
kind: Process
metadata:
  name: batch
  namespace: shop
spec:
  command: [sh, -c, 'echo batch done']
  restartPolicy: Never
`;

const plain = (inject: string): string => `
apiVersion: v1
kind: Namespace
metadata:
  name: legacy
  labels:
    istio-injection: disabled
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata:
  name: plain
  namespace: shop
  labels:
    app: plain
    sidecar.istio.io/inject: "${inject}"
spec:
  command: [sleep, "1000"]
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata:
  name: old
  namespace: legacy
spec:
  command: [sleep, "1000"]
`;

/** Who calls front is told which rules decided. */
const ROUTES = `
apiVersion: weft.dev/v1alpha1
kind: DecisionHeader
metadata:
  name: debug
  namespace: shop
spec:
  callers: [cluster.local/ns/shop/sa/front]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: front
  namespace: shop
spec:
  hosts: [front]
  http:
    - timeout: 19s
      route:
        - destination:
            host: front
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: all
  namespace: shop
spec:
  rules: [{}]
`;

test('the command line', async (t) => {
  const mesh = await meshOf(
    t,
    isRoot ? 'transparent' : 'explicit',
    { front: { v1: 1 } },
    { 'batch.yaml': BATCH, 'plain.yaml': plain('false'), 'routes.yaml': ROUTES },
  );

  await t.test('a job completes and is not started again', async () => {
    await mesh.until('completed', 60_000, () => mesh.row('batch').state === 'completed');
    assert.equal(mesh.row('batch').restarts, 0);
    await mesh.until('what it said', 60_000, () => weft(mesh, 'logs', 'batch').out === 'batch done\n');
  });

  await t.test('a request that was made: what decided in each of its calls, and all that was said of it', async () => {
    const url = 'http://front:8080/run';
    const id = 'a-request-of-this-test';
    const body = JSON.stringify({ url: 'http://front:8080/end', inherit: true });
    const { json } = await mesh.ask('front', '/run', { method: 'POST', url, headers: { 'x-request-id': id }, body });
    assert.equal(json.statuses['200'], 1);
    // The caller is named by a policy: both proxies of the way told it.
    const told = JSON.parse(`[${json.sample.headers['x-weft-decision']}]`) as {
      reporter: string;
      epoch: number;
      decisions: Record<string, [string, string]>;
    }[];
    assert.deepEqual(
      told.map((d) => [d.reporter, Object.keys(d.decisions)]),
      [
        ['destination', ['authorization']],
        ['source', ['route', 'destination', 'timeout', 'cluster']],
      ],
    );
    const lineOf = (text: string): number => ROUTES.split('\n').findIndex((l) => l.includes(text)) + 1;
    const timeout = told[1]?.decisions.timeout ?? [];
    assert.equal(timeout[0], 'VirtualService/shop/front#spec.http[0].timeout');
    assert.ok(timeout[1]?.endsWith(`routes.yaml:${lineOf('timeout: 19s')}`), timeout[1]);
    assert.ok((told[0]?.epoch ?? 0) >= 1);

    interface Told {
      instance: string;
      reporter: string;
      epoch: number;
      decisions: { kind: string; rule: string; place: string }[];
      children: Told[];
    }
    const chain = (h: Told): string[] => [
      `${h.instance} ${h.reporter} ${h.decisions.map((d) => d.kind).join(',')}`,
      ...h.children.flatMap(chain),
    ];
    const both = ['front-0 source route,destination,timeout,cluster', 'front-0 destination authorization'];
    await mesh.until('the proxies have told', 60_000, () => {
      const asked = weft(mesh, 'explain', '--request-id', id, '-o', 'json');
      if (asked.code !== 0) return false;
      const { hops } = JSON.parse(asked.out) as { hops: Told[] };
      const calls = hops.flatMap(chain);
      if (calls.length < 4) return false;
      assert.deepEqual(calls, [...both, ...both]);
      return true;
    });
    const text = weft(mesh, 'explain', '--request-id', id).out;
    assert.match(
      text,
      /\n└─ front-0 \(called\) {2}POST front:8080\/run[^\n]*\n.*authorization .*AuthorizationPolicy\/shop\/all#spec\.rules\[0\] {2}routes\.yaml:\d+\n/,
    );
    await mesh.until('the application has told', 60_000, () => {
      const { out, code } = weft(mesh, 'logs', '--request-id', id);
      assert.equal(code, 0);
      const who = out
        .trim()
        .split('\n')
        .map((l) => l.replace(/^( *\[[^\]]*\]).*?(caller|called|calls on).*$/, '$1 $2'));
      if (who.length < 5) return false;
      assert.deepEqual(who, [
        '[front-0 proxy] caller',
        '  [front-0 proxy] called',
        '    [front-0] calls on',
        '    [front-0 proxy] caller',
        '      [front-0 proxy] called',
      ]);
      return true;
    });
    refuses(mesh, ['explain', '--request-id', 'never-made'], /no proxy of the mesh has told of request "never-made"/);
    refuses(mesh, ['explain', '--request-id', id, '--from', 'front'], /leave --from/, 2);
  });

  await t.test('labels that turn injection off, and one that changed', async () => {
    for (const name of ['plain', 'old']) {
      assert.equal(mesh.row(name).injected, false);
      assert.equal(mesh.row(name).proxyPid, undefined);
    }
    const { out } = weft(mesh, 'ps');
    assert.match(out, /plain-0: not injected \(sidecar\.istio\.io\/inject: false on the process\)/);
    assert.match(out, /old-0: not injected \(istio-injection: disabled on namespace legacy\)/);

    mesh.write('plain.yaml', plain('true'));
    assert.match(weft(mesh, 'ps').out, /plain-0: labelled, not injected \(sidecar\.istio\.io\/inject: true/);
    assert.equal(mesh.row('plain').injected, false, 'nothing happens before a restart');
    assert.equal(weft(mesh, 'restart', 'plain').code, 0);
    assert.equal(mesh.row('plain').injected, true);
    assert.ok(mesh.row('plain').proxyPid);
    assert.doesNotMatch(weft(mesh, 'ps').out, /plain-\d+: /);
  });

  await t.test('run: a service that nobody declared, until the command ends', async () => {
    const joined: ChildProcess = spawn(
      process.execPath,
      [
        weftBin,
        'run',
        '--mesh',
        mesh.name,
        '--service',
        'web',
        '-n',
        'shop',
        '--port',
        '8000',
        '--',
        'node',
        'apps/peer.mjs',
      ],
      { env: mesh.env, cwd: mesh.folder, stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let said = '';
    joined.stdout!.on('data', (d: Buffer) => {
      said += d.toString();
    });
    const ended = new Promise<number | null>((resolve) => joined.on('exit', (code) => resolve(code)));
    await mesh.until('web ready', 60_000, () => mesh.row('web-run').state === 'ready');
    // The supervisor knows before the command has printed it.
    await mesh.until('run says where', 60_000, () => new RegExp(`web-run-0 joined mesh ${mesh.name} at `).test(said));
    const call = { count: 20, concurrency: 4, url: 'http://web.shop:8000/' };
    await mesh.until('front reaches web', 60_000, async () => {
      const { json } = await mesh.ask('front', '/run', call);
      return json.statuses['200'] === 20;
    });
    joined.kill('SIGINT');
    assert.equal(await ended, 0);
    assert.equal(
      mesh.ps().some((r) => r.workload === 'web-run'),
      false,
      'it left',
    );
    // Its Service went with it: the same name can be joined from another port.
    const again = weft(
      mesh,
      'run',
      '--service',
      'web',
      '-n',
      'shop',
      '--port',
      '8001',
      '--',
      'sh',
      '-c',
      'echo hi; exit 7',
    );
    assert.equal(again.code, 7, again.error);
    assert.match(again.out, /\nhi\n$/);
  });

  await t.test('run: killed, it leaves nothing', async () => {
    const args = ['run', '--mesh', mesh.name, '--service', 'lost', '-n', 'shop', '--port', '8002', '--', 'node'];
    const options = { env: mesh.env, cwd: mesh.folder, stdio: 'ignore' as const };
    const joined = spawn(process.execPath, [weftBin, ...args, 'apps/peer.mjs'], options);
    await mesh.until('lost is ready', 60_000, () => mesh.row('lost-run').state === 'ready');
    const { pid, proxyPid } = mesh.row('lost-run');
    // The command runs in a child of what was started: all of it goes at once, and says nothing.
    const children = execFileSync('sh', ['-c', `cat /proc/${joined.pid}/task/*/children`], { encoding: 'utf8' });
    for (const child of [joined.pid, ...children.trim().split(/\s+/).filter(Boolean).map(Number)]) {
      process.kill(child as number, 'SIGKILL');
    }
    await mesh.until('it left', 60_000, () => !mesh.ps().some((r) => r.workload === 'lost-run'));
    for (const gone of [pid, proxyPid]) assert.throws(() => process.kill(gone as number, 0), /ESRCH/);
  });

  await t.test('run: one more process for a service of the files', async () => {
    const joined = spawn(
      process.execPath,
      [
        weftBin,
        'run',
        '--mesh',
        mesh.name,
        '--service',
        'front',
        '-n',
        'shop',
        '--port',
        '8080',
        '--',
        'node',
        'apps/peer.mjs',
      ],
      { env: mesh.env, cwd: mesh.folder, stdio: 'ignore' },
    );
    const ended = new Promise<number | null>((resolve) => joined.on('exit', (code) => resolve(code)));
    await mesh.until('ready', 60_000, () => mesh.row('front-run').state === 'ready');
    await mesh.until('it takes its share', 60_000, async () => {
      const { json } = await mesh.ask('front', '/run', { count: 40, concurrency: 8, url: 'http://front:8080/' });
      assert.deepEqual(Object.keys(json.statuses), ['200']);
      const { json: state } = await mesh.ask('front-run', '/state');
      return state.served > 0;
    });
    joined.kill('SIGTERM');
    assert.equal(await ended, 0);
    refuses(
      mesh,
      ['run', '--service', 'front', '-n', 'shop', '--port', '9', '--', 'true'],
      /service front sends to port 8080 of its processes, not to 9/,
    );
  });

  await t.test('scale and restart say what runs now', () => {
    const scaled = weft(mesh, 'scale', 'front', '2', '-o', 'json');
    assert.equal(scaled.code, 0, scaled.error);
    assert.equal((JSON.parse(scaled.out) as Row[]).length, 2);
    assert.match(weft(mesh, 'scale', 'front', '1').out, /^NAME .*\nfront-0 +shop +ready [^\n]*\n$/);
    const restarted = JSON.parse(weft(mesh, 'restart', 'shop/front', '-o', 'json').out) as Row[];
    assert.deepEqual(
      restarted.map((r) => r.state),
      ['ready'],
    );
  });

  await t.test('what is unknown is one line that says what there is', () => {
    const processes = /no process "nope" in mesh .*; there are: legacy\/old, shop\/batch, shop\/front, shop\/plain/;
    refuses(mesh, ['scale', 'nope', '2'], processes);
    refuses(mesh, ['restart', 'nope'], processes);
    refuses(mesh, ['logs', 'nope'], /nothing named "nope" runs in mesh .*; "weft ps" lists what does/);
    refuses(mesh, ['ps', '--mesh', 'other'], new RegExp(`mesh "other" is not running here; running: ${mesh.name}`));
    refuses(mesh, ['ps', '--mesh', 'No_Name'], /mesh name "No_Name" is not usable/);
    refuses(mesh, ['scale', 'front', '5000'], /replicas must be a whole number from 0 to 1000/);
    refuses(mesh, ['up', '-f', 'nowhere'], /nowhere does not exist/);
    refuses(mesh, ['run', '--service', 'A_b', '--port', '80', '--', 'true'], /service "A_b" is not usable/);
    refuses(
      mesh,
      ['run', '--service', 'c', '--port', '80', '--', 'no-such-program'],
      /"no-such-program" is not on PATH/,
    );
    for (const wrong of [
      ['scale', 'front', 'many'],
      ['authz', 'check', '--bogus'],
    ])
      assert.equal(weft(mesh, ...wrong).code, 2, wrong.join(' '));
    assert.equal(weft(mesh, '--help').code, 0);
  });

  await t.test('validate', () => {
    assert.match(weft(mesh, 'validate', '-f', '.').out, /4 files: valid\n$/);
    mkdirSync(join(mesh.folder, 'wrong'));
    mesh.write('wrong/a.yaml', peers({ a: { v1: 1 } }).replace('replicas: 1', 'replicaz: 1'));
    const wrong = weft(mesh, 'validate', '-f', 'wrong');
    assert.equal(wrong.code, 1);
    assert.match(wrong.out, /wrong\/a\.yaml:\d+[^\n]*replicaz/);
    const json = weft(mesh, 'validate', '-f', 'wrong', '-o', 'json');
    assert.equal(json.code, 1);
    const found = JSON.parse(json.out) as { code: string; severity: string; line: number; field: string }[];
    assert.equal(found[0]?.severity, 'error');
    assert.equal(found[0]?.code, 'IST0106');
    assert.match(found[0]?.field ?? '', /replicaz/);
  });

  await t.test('analyze: what the running mesh has, and files', () => {
    const live = weft(mesh, 'analyze', '-o', 'json');
    assert.equal(live.code, 0, live.error);
    const found = JSON.parse(live.out) as { code: string; resource: string; namespace: string; file: string }[];
    const legacy = found.find((f) => f.code === 'IST0102' && f.resource === 'Namespace/legacy');
    assert.ok(legacy?.file.endsWith('plain.yaml'));
    const elsewhere = JSON.parse(weft(mesh, 'analyze', '-n', 'legacy', '-o', 'json').out) as typeof found;
    assert.deepEqual(
      elsewhere.map((f) => [f.code, f.resource]),
      [['IST0102', 'Namespace/legacy']],
    );
    assert.match(weft(mesh, 'analyze', '-n', 'legacy', '-S', 'IST0102=Namespace *').out, /^no problem found/);
    const wrong = weft(mesh, 'analyze', 'wrong');
    assert.equal(wrong.code, 1);
    assert.match(wrong.out, /wrong\/a\.yaml:\d+[^\n]*error \[IST0106\][^\n]*replicaz/);
    assert.equal(weft(mesh, 'analyze', '-S', 'nonsense').code, 2);
  });

  await t.test('explain: on the running mesh and on its files, both sides', () => {
    const live = weft(mesh, 'explain', '--from', 'shop/front', '--to', 'front:8080', '/x');
    assert.equal(live.code, 0, live.error);
    assert.match(live.out, /mTLS to shop\/front: it must prove spiffe:/);
    assert.match(live.out, / % {2}.*front-\d/);
    assert.ok(
      live.out.split('\n').every((l) => l.length <= 100),
      live.out,
    );
    const json = weft(mesh, 'explain', '--live', '--from', 'shop/front', '--to', 'front:8080', '-o', 'json');
    const { outcomes, steps } = JSON.parse(json.out) as {
      outcomes: { probability: number; status: string; instance: string }[];
      steps: { kind: string; side: string }[];
    };
    assert.ok(Math.abs(outcomes.reduce((sum, o) => sum + o.probability, 0) - 1) < 1e-9);
    assert.ok(outcomes.every((o) => o.status === 'application' && o.instance.startsWith('front-')));
    assert.ok(steps.some((s) => s.side === 'server' && s.kind === 'authorize'));
    const visitor = weft(mesh, 'explain', '--live', '--from', 'outside', '--to', 'shop/front:8080', '/x');
    assert.equal(visitor.code, 0, visitor.error);
    assert.match(visitor.out, /plaintext to shop\/front: the caller has no proxy/);
    const files = weft(mesh, 'explain', '-f', '.', '--from', 'shop/front', '--to', 'front:8080');
    assert.equal(files.code, 0, files.error);
    refuses(mesh, ['explain', '--from', 'shop/nobody', '--to', 'front:8080'], /shop\/front/);
    refuses(mesh, ['explain', '--from', 'shop/front', '--to', 'front:1'], /8080/);
  });

  await t.test('diff: files against the running mesh', () => {
    const same = weft(mesh, 'diff', '-f', '.', '--requests');
    assert.equal(same.code, 0, same.out + same.error);
    assert.match(same.out, /nothing is decided otherwise\n$/);
    mesh.write(
      'wrong/a.yaml',
      `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: closed, namespace: shop }
spec: { action: DENY, rules: [{}] }
`,
    );
    const other = weft(mesh, 'diff', '-f', '.', 'wrong', '--live', '-n', 'shop', '--requests', '-o', 'json');
    assert.equal(other.code, 1, other.error);
    const { changes, requests } = JSON.parse(other.out) as {
      changes: { subject: string; references: { after: { file: string; line: number } } }[];
      requests: { changes: { changes: { aspect: string; after: Record<string, number> }[] }[] };
    };
    assert.deepEqual([...new Set(changes.map((c) => c.subject))], ['authorization']);
    assert.match(changes[0].references.after.file, /wrong\/a\.yaml$/);
    assert.ok(requests.changes.length > 0);
    assert.match(JSON.stringify(requests.changes[0].changes), /403 \(denied/);
    assert.equal(weft(mesh, 'diff', '-f', 'nowhere').code, 2);
  });

  await t.test("fault: in people's own file for a while, with its effect; as before when it is over", async () => {
    const file = join(mesh.folder, 'routes.yaml');
    const before = readFileSync(file, 'utf8');
    const call = { url: 'http://front:8080/end', count: 5, headers: { 'x-test': '1' } };
    const statuses = async (more = {}) => (await mesh.ask('front', '/run', { ...call, ...more })).json.statuses;
    const wanted = ['fault', 'add', 'front', '--abort', '418', '--from', 'shop/front', '-H', 'X-Test: 1'];
    const dry = weft(mesh, ...wanted, '--dry-run');
    assert.equal(dry.code, 0, dry.error);
    assert.match(dry.out, /outcome +- the application answers\n +\+ 418 \(fault, fault_filter_abort\)/);
    assert.match(dry.out, /\d+ \+ +- name: weft-fault-f1-0 # weft fault f1, until /);
    assert.equal(readFileSync(file, 'utf8'), before);

    const added = weft(mesh, ...wanted, '--for', '1h', '-o', 'json');
    assert.equal(added.code, 0, added.error);
    assert.deepEqual(await statuses(), { '418': 5 });
    assert.deepEqual(await statuses({ headers: {} }), { '200': 5 });
    const [listed] = JSON.parse(weft(mesh, 'fault', 'list', '-o', 'json').out);
    assert.deepEqual([listed.id, listed.service, listed.file], ['f1', 'shop/front', file]);
    const removed = weft(mesh, 'fault', 'remove', 'f1');
    assert.equal(removed.code, 0, removed.error);
    assert.equal(readFileSync(file, 'utf8'), before);
    assert.deepEqual(await statuses(), { '200': 5 });

    assert.equal(weft(mesh, ...wanted, '--for', '1s').code, 0);
    await mesh.until('its time is over', 30_000, async () => (await statuses())['200'] === 5);
    assert.equal(readFileSync(file, 'utf8'), before);
    assert.match(
      mesh.output,
      /fault f1 \(shop\/front: abort 418 for 100 % \(from shop\/front, x-test: 1\)\) is taken back/,
    );
    const bad = weft(mesh, 'fault', 'add', 'front', '--delay', 'soon');
    assert.equal(bad.code, 1);
    assert.match(bad.error, /the fault is refused:\n +routes\.yaml:\d+.*fixedDelay/);
  });

  await t.test('down', async () => {
    assert.match(weft(mesh, 'down').out, /is stopped\n$/);
    assert.equal(await mesh.exited(), 0);
    refuses(mesh, ['ps'], /is not running here/);
    assert.equal(weft(mesh, 'down').code, 0);
  });
});

test('an old Node without the runtime gets one line', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(dirname(weftBin), join(folder, 'bin'), { recursive: true });
  // Whatever Node runs this: it says that it is an old one.
  const pretend = `data:text/javascript,Object.defineProperty(process,'versions',{value:{...process.versions,node:'20.1.0'}})`;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', pretend, join(folder, 'bin/weft.mjs'), 'ps'],
    { encoding: 'utf8' },
  );
  assert.equal(status, 1);
  assert.equal(stdout, '');
  assert.match(
    stderr,
    /^weft: needs Node 24, this is \d+\.\d+\.\d+ and the runtime [^\n]* is missing: run "npm ci"[^\n]*\n$/,
  );
});
