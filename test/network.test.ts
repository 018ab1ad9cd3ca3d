/** IPv6 beside IPv4, and what a workload gives away of itself to its network: real processes in network namespaces. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect, inside, type Proof, proofs, session, spoken, stream } from './attacker.ts';
import { meshOf, needsRoot, peers, type Row, request } from './harness.ts';

const noIpv6 = needsRoot || (existsSync('/proc/net/if_inet6') ? false : 'this machine has no IPv6');

/** The services of the harness, with families and with applications that listen at one of their addresses alone. */
function services(): string {
  return peers({ cart: { v1: 1 }, mallory: { v1: 1 }, dual: { v1: 1 }, six: { v1: 1 } })
    .replace(
      'name: dual\n  namespace: shop\nspec:\n  selector',
      'name: dual\n  namespace: shop\nspec:\n  ipFamilyPolicy: RequireDualStack\n  selector',
    )
    .replace(
      'name: six\n  namespace: shop\nspec:\n  selector',
      'name: six\n  namespace: shop\nspec:\n  ipFamilies: [IPv6]\n  selector',
    )
    .replace(
      'value: six\n    - name: VERSION',
      "value: six\n    - name: ONLY_FAMILY\n      value: '6'\n    - name: VERSION",
    );
}

interface Answer {
  statuses: Record<string, number>;
  sample: { text: string };
}

async function call(from: Row, url: string, family?: 4 | 6): Promise<Answer> {
  return (await request(from.address, 8080, '/run', { url, family })).json as Answer;
}

const POLICY = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: dual, namespace: shop}
spec: {selector: {matchLabels: {app: dual}}, mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: dual, namespace: shop}
spec: {selector: {matchLabels: {app: dual}}, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/cart]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: six, namespace: shop}
spec: {selector: {matchLabels: {app: six}}, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/cart]}}]}]}
`;

/** Where an application keeps something for itself. */
const PRIVATE = 9099;
/** What is meant for the monitoring of all. */
const SHOWN = [15020, 15021, 15090];
/** The proxy's, the control plane's, and their neighbours. */
const INTERNAL = [15000, 15001, 15004, 15006, 15008, 15010, 15012, 15014, 15017, 15053, 15099, ...SHOWN];

/** Asks every place for `/stats/prometheus` at once; says of each what came: `no`, `open` or the status and its kind. */
const PROBE = `
  import net from 'node:net';
  const kind = (t) => (t.includes('private') ? 'private' : t.includes('weft_') ? 'metrics' : t.includes('"name"') ? 'app' : 'other');
  const ask = ([host, port]) => new Promise((resolve) => {
    let text = '';
    const socket = net.connect(port, host);
    const done = (what) => { resolve([host + ' ' + port, what]); socket.destroy(); };
    const timer = setTimeout(() => done(text ? text.slice(9, 12) + ' ' + kind(text) : 'open'), 60_000);
    socket.on('error', () => {});
    socket.on('close', () => { clearTimeout(timer); done(text ? text.slice(9, 12) + ' ' + kind(text) : 'no'); });
    socket.on('data', (d) => { text += d; });
    socket.write('GET /stats/prometheus HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n');
  });
  console.log(JSON.stringify(await Promise.all(PLACES.map(ask))));
  setInterval(() => {}, 1000);`;

const ports = [...INTERNAL, 8080, PRIVATE];

/** What a connection to each port at each address should meet. */
function expected(hosts: readonly string[], meets: (host: string, port: number) => string): [string, string][] {
  return hosts.flatMap((host) => ports.map((port): [string, string] => [`${host} ${port}`, meets(host, port)]));
}

test('IPv4 and IPv6: services of one family and of both, and what every port gives to whom', {
  skip: noIpv6,
}, async (t) => {
  const mesh = await meshOf(t, 'transparent', {}, { 'services.yaml': services(), 'policy.yaml': POLICY });
  const cart = mesh.row('cart');
  const target = mesh.row('dual');
  await t.test('services are called over mutual TLS', async () => {
    for (const [url, family] of [
      ['http://six:8080/a', undefined],
      ['http://six:8080/a', 6],
      ['http://dual:8080/a', 4],
      ['http://dual:8080/a', 6],
      [`http://[${target.address6}]:8080/a`, undefined],
    ] as const) {
      const said = await call(cart, url, family);
      assert.deepEqual(said.statuses, { 200: 1 }, `${url} ${family}: ${JSON.stringify(said)}`);
      const { headers } = JSON.parse(said.sample.text);
      assert.match(
        String(headers['x-forwarded-client-cert']),
        /URI=spiffe:\/\/cluster\.local\/ns\/shop\/sa\/cart/,
        url,
      );
    }
    // A name has the addresses of its families, and no others.
    for (const [url, family] of [
      ['http://six:8080/a', 4],
      ['http://mallory:8080/a', 6],
    ] as const) {
      assert.equal((await call(cart, url, family)).statuses['200'], undefined, `${url} over IPv${family}`);
    }
  });

  const own = [target.address, target.address6 as string];
  const places = (hosts: readonly string[]): string =>
    PROBE.replace('PLACES', JSON.stringify(hosts.flatMap((host) => ports.map((port) => [host, port]))));
  const listener = `import net from 'node:net';
    net.createServer((s) => s.end('HTTP/1.1 200 OK\\r\\n\\r\\nprivate')).listen(${PRIVATE}, '127.0.0.1', () => console.log('listens'))`;
  await spoken(inside(t, mesh, 'dual', false, listener));
  const heard = async (child: ChildProcess) => {
    let said = '';
    await new Promise<void>((resolve, reject) => {
      child.stdout?.on('data', (d) => {
        said += d;
        if (said.includes('\n')) resolve();
      });
      child.once('exit', () => reject(new Error(`it said ${said}`)));
    });
    child.kill('SIGKILL');
    return new Map(JSON.parse(said) as [string, string][]);
  };
  /** From a workload's namespace, as a user. */
  const from = (workload: string, user: boolean | number, hosts: readonly string[]) =>
    heard(inside(t, mesh, workload, user, places(hosts)));
  const fromHost = (hosts: readonly string[]) =>
    heard(
      spawn(process.execPath, ['--input-type=module', '-e', places(hosts)], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
  const shown = (port: number): string | undefined =>
    port === 15021 ? '404 other' : SHOWN.includes(port) ? '200 metrics' : undefined;

  await t.test('ports from the same workload', async () => {
    const loopback = ['127.0.0.1', '::1'];
    const met = await from('dual', false, [...loopback, ...own]);
    const wanted = expected([...loopback, ...own], (host, port) => {
      if (port === 8080) return '200 app'; // its own application, without a detour
      if (port === PRIVATE) return host === '127.0.0.1' ? '200 private' : 'no';
      if (port === 15000) return host === '127.0.0.1' ? '200 metrics' : 'no';
      return shown(port) ?? 'no';
    });
    assert.deepEqual([...met], wanted);
  });

  await t.test('ports from another workload, through its proxy', async () => {
    const met = await from('mallory', false, own);
    assert.deepEqual(
      [...met],
      expected(own, (_host, port) => (port === 8080 ? '403 other' : (shown(port) ?? 'no'))),
    );
  });

  await t.test('ports from another workload that goes around its proxy, and from the host', async () => {
    const wanted = expected(own, (_host, port) => shown(port) ?? 'no');
    assert.deepEqual([...(await from('mallory', 1337, own))], wanted, 'as the user of proxies');
    assert.deepEqual([...(await fromHost(own))], wanted, 'from the host');
    // PERMISSIVE lets plaintext in: then it is nobody, whom the policy does not know.
    const six = mesh.row('six');
    const plain = await from('mallory', 1337, [six.address6 as string]);
    assert.equal(plain.get(`${six.address6} 8080`), '403 other');
  });

  await t.test('ports over the mesh port', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'weft-network-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const has = await proofs(mesh, folder);
    const tunnels = async (host: string, proof: Proof) => {
      const s = await session(connect(host, 15008, proof, ['h2']), true);
      const met: [string, string][] = [];
      for (const port of ports) {
        const name = host.includes(':') ? `[${host}]` : host;
        const { status } = await stream(s, { ':method': 'CONNECT', ':authority': `${name}:${port}` });
        met.push([`${host} ${port}`, status]);
      }
      s.destroy();
      return met;
    };
    for (const host of own) {
      const open = expected([host], (_host, port) => (port === 8080 ? '200' : '403'));
      assert.deepEqual(await tunnels(host, has.right), open, 'who is let in');
      const closed = expected([host], () => '403');
      assert.deepEqual(await tunnels(host, has.another), closed, 'who is known, and not let in');
    }
    // Who goes around its own proxy with its own certificate is judged as what it is.
    const get = { ':method': 'GET', ':path': '/', ':scheme': 'http', ':authority': 'dual:8080', 'x-weft-port': '8080' };
    for (const [proof, status] of [
      [has.right, '200'],
      [has.another, '403'],
    ] as const) {
      const s = await session(connect(own[1]!, 15008, proof, ['h2']), true);
      assert.equal((await stream(s, get)).status, status);
      s.destroy();
    }
  });

  await t.test('a proxy has no rights, no way to any, and nothing to write to but its own folder', () => {
    for (const { proxyPid, name } of mesh.ps()) {
      for (const thread of readdirSync(`/proc/${proxyPid}/task`)) {
        const status = readFileSync(`/proc/${proxyPid}/task/${thread}/status`, 'utf8');
        assert.match(status, /^Uid:\t1337\t1337\t1337\t1337$/m, name);
        assert.match(status, /^Gid:\t1337\t1337\t1337\t1337$/m, name);
        assert.match(status, /^Groups:\s*$/m, name);
        assert.match(status, /^NoNewPrivs:\t1$/m, name);
        assert.match(status, /^Seccomp:\t2$/m, name);
        for (const set of ['Inh', 'Prm', 'Eff', 'Amb']) assert.match(status, new RegExp(`^Cap${set}:\t0+$`, 'm'), name);
      }
      const own = `/run/weft/${mesh.name}.${name}`;
      const there = ['--target', String(proxyPid), '--mount', '--'];
      const seen = execFileSync('nsenter', [...there, 'ls', '/run/weft'], { encoding: 'utf8' });
      const others = seen
        .trim()
        .split('\n')
        .filter((folder) => !folder.startsWith(`${mesh.name}.${name}`));
      assert.deepEqual(others, [], 'it does not see the keys of others');
      const script = 'for d in / /tmp /var/tmp /dev/shm /run/weft $0; do touch $d/x 2>/dev/null && echo $d; done';
      const proxy = ['setpriv', '--reuid=1337', '--regid=1337', '--clear-groups', 'sh', '-c', script, own];
      assert.equal(
        execFileSync('nsenter', [...there, ...proxy], { encoding: 'utf8' }),
        `${own}\n`,
        'where it can write',
      );
    }
  });
});
