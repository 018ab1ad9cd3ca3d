/** What is on the wire between two workloads: a capture on every veth, read packet by packet. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseClientHello } from '@weft/wire';
import { meshOf, needsRoot, type TestMesh } from './harness.ts';

const PACKETS = 10_000;
const TLS_1_3 = 0x0304;
const BATCH = 2500;

/** Runs inside the client's namespace as any user would: what it is told never crosses a veth outside the mesh. */
const BURST = `
import http from 'node:http';
const [url, marker, count, concurrency] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
const result = { statuses: {}, mtls: 0, echoed: 0 };
const once = () => new Promise((resolve) => {
  const body = JSON.stringify({ secret: marker });
  const to = url + '/path-' + marker + '?q=' + marker;
  const headers = { 'x-secret': marker, 'content-length': body.length };
  const request = http.request(to, { agent, method: 'POST', headers }, (response) => {
    const parts = [];
    response.on('data', (p) => parts.push(p));
    response.on('end', () => {
      result.statuses[response.statusCode] = (result.statuses[response.statusCode] ?? 0) + 1;
      const text = Buffer.concat(parts).toString();
      if (text.includes('x-forwarded-client-cert')) result.mtls += 1;
      if (text.split(marker).length > 3) result.echoed += 1;
      resolve();
    });
  });
  request.on('error', (e) => { result.statuses[e.code] = (result.statuses[e.code] ?? 0) + 1; resolve(); });
  request.end(body);
});
let left = Number(count);
await Promise.all(Array.from({ length: Number(concurrency) }, async () => { while (left-- > 0) await once(); }));
console.log(JSON.stringify(result));
process.exit(0);
`;

interface Packet {
  from: string;
  to: string;
  toPort: number;
  fromPort: number;
  sequence: number;
  payload: Buffer;
}

/** Reads a classic pcap file of Ethernet frames: the TCP packets over IPv4. */
function readPcap(file: Buffer): Packet[] {
  assert.equal(file.readUInt32LE(0), 0xa1b2c3d4, 'a pcap file of this machine');
  assert.equal(file.readUInt32LE(20), 1, 'Ethernet');
  const packets: Packet[] = [];
  for (let at = 24; at + 16 <= file.length; ) {
    const length = file.readUInt32LE(at + 8);
    const frame = file.subarray(at + 16, at + 16 + length);
    at += 16 + length;
    if (frame.length < 34 || frame.readUInt16BE(12) !== 0x0800) continue;
    const ip = frame.subarray(14);
    if (ip[9] !== 6) continue;
    const tcp = ip.subarray((ip[0]! & 15) * 4, ip.readUInt16BE(2) || undefined);
    packets.push({
      from: ip.subarray(12, 16).join('.'),
      to: ip.subarray(16, 20).join('.'),
      fromPort: tcp.readUInt16BE(0),
      toPort: tcp.readUInt16BE(2),
      sequence: tcp.readUInt32BE(4),
      payload: tcp.subarray((tcp[12]! >> 4) * 4),
    });
  }
  return packets;
}

/** What each connection to `port` said first, in the order of its sequence numbers. */
function firstBytes(packets: Packet[], port: number): Buffer[] {
  const flows = new Map<string, Packet[]>();
  for (const p of packets) {
    if (p.toPort !== port || p.payload.length === 0) continue;
    const key = `${p.from}:${p.fromPort}>${p.to}`;
    const flow = flows.get(key) ?? [];
    flows.set(key, flow);
    if (flow.length < 4 && !flow.some((q) => q.sequence === p.sequence)) flow.push(p);
  }
  return [...flows.values()].map((flow) =>
    Buffer.concat(flow.sort((a, b) => (a.sequence - b.sequence) | 0).map((p) => p.payload)),
  );
}

interface Link {
  ifname: string;
  ifalias?: string;
  master?: string;
}

function links(kind: string): Link[] {
  return JSON.parse(execFileSync('ip', ['-j', 'link', 'show', 'type', kind], { encoding: 'utf8' }));
}

/** Every veth on the bridge of the mesh. */
function veths(mesh: TestMesh): string[] {
  const bridge = links('bridge').find((l) => l.ifalias === `weft:${mesh.name}`);
  assert.ok(bridge, 'the bridge of the mesh');
  return links('veth')
    .filter((l) => l.master === bridge.ifname)
    .map((l) => l.ifname);
}

interface Tap {
  name: string;
  read(): Buffer;
  stop(): Promise<void>;
}

async function tap(t: TestContext, mesh: TestMesh, folder: string, name: string): Promise<Tap> {
  const file = join(folder, `${name}-${randomUUID()}.pcap`);
  const child: ChildProcess = spawn(
    'tcpdump',
    ['-i', name, '-w', file, '-U', '-n', '-s', '0', '-B', '16384', '-Z', 'root', 'ip'],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr?.on('data', (d: Buffer) => {
    said += d.toString();
  });
  const exited = new Promise<void>((resolve) => child.on('exit', () => resolve()));
  const stop = async (): Promise<void> => {
    if (child.exitCode === null) child.kill('SIGINT');
    await exited;
  };
  t.after(stop);
  await mesh.until(`tcpdump on ${name}`, 60_000, () => said.includes('listening on'));
  return { name, read: () => readFileSync(file), stop };
}

function burst(mesh: TestMesh, url: string, marker: string, count: number, concurrency: number) {
  const namespace = mesh.row('client').netns as string;
  const argv = ['netns', 'exec', namespace, 'setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
  const script = join(mesh.folder, 'apps/burst.mjs');
  return new Promise<{ statuses: Record<string, number>; mtls: number; echoed: number }>((resolve, reject) => {
    const child = spawn('ip', [...argv, process.execPath, script, url, marker, String(count), String(concurrency)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: '/',
    });
    let out = '';
    child.stdout.on('data', (d: Buffer) => {
      out += d.toString();
    });
    child.on('error', reject);
    child.on('exit', (code) => (code === 0 ? resolve(JSON.parse(out)) : reject(new Error(`burst: exit ${code}`))));
  });
}

const DISABLE = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
  namespace: istio-system
spec:
  mtls:
    mode: DISABLE
`;

test('packets between workloads', { skip: needsRoot }, async (t) => {
  const mesh = await meshOf(t, 'transparent', { client: { v1: 1 }, server: { v1: 1 } });
  mesh.write('apps/burst.mjs', BURST);
  const folder = mkdtempSync(join(tmpdir(), 'weft-packets-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const names = veths(mesh);
  assert.equal(names.length, 2, 'one veth a workload');
  const server = mesh.row('server').address;
  const url = 'http://server:8080';

  await t.test('nothing of the application is readable, and every link begins with TLS 1.3', async (t) => {
    const taps = await Promise.all(names.map((name) => tap(t, mesh, folder, name)));
    const marker = `marker${randomUUID().replaceAll('-', '')}`;
    const toMesh = (packets: Packet[]) => packets.filter((p) => p.to === server && p.toPort === 15008).length;
    let sent = 0;
    for (let seen = 0; seen < PACKETS; ) {
      const r = await burst(mesh, url, marker, BATCH, 2);
      sent += BATCH;
      assert.deepEqual(r, { statuses: { '200': BATCH }, mtls: BATCH, echoed: BATCH });
      seen = Math.min(...taps.map((tp) => toMesh(readPcap(tp.read()))));
      assert.ok(sent <= 12 * BATCH, `${seen} packets to 15008 after ${sent} requests`);
    }
    await Promise.all(taps.map((tp) => tp.stop()));
    for (const tp of taps) {
      const file = tp.read();
      const packets = readPcap(file);
      assert.ok(toMesh(packets) >= PACKETS, `${tp.name}: ${toMesh(packets)} packets to 15008`);
      assert.equal(file.indexOf(marker), -1, `${tp.name}: the marker is on the wire`);
      assert.equal(
        packets.filter((p) => p.to === server && p.toPort === 8080).length,
        0,
        `${tp.name}: a packet to the application's own port`,
      );
      const firsts = firstBytes(packets, 15008);
      // Where the link was made before the capture there is no hello: the next subtest looks at a new one.
      for (const first of firsts) {
        if (first[0] !== 0x16) continue;
        const hello = parseClientHello(first);
        assert.ok(typeof hello === 'object', `${tp.name}: ClientHello ${JSON.stringify(hello)}`);
        assert.ok(hello.versions.includes(TLS_1_3), `TLS 1.3 offered: ${hello.versions}`);
        assert.ok(
          hello.versions.every((v) => v >= TLS_1_3),
          `nothing older offered: ${hello.versions}`,
        );
        assert.deepEqual(hello.alpn, ['h2']);
      }
      assert.ok(
        firsts.some((f) => f[0] === 0x16),
        `${tp.name}: a ClientHello was captured`,
      );
    }
  });

  await t.test('with mTLS DISABLE the same capture finds the marker', async (t) => {
    const taps = await Promise.all(names.map((name) => tap(t, mesh, folder, name)));
    mesh.write('disable.yaml', DISABLE);
    const marker = `marker${randomUUID().replaceAll('-', '')}`;
    await mesh.until('requests go in plaintext', 60_000, async () => {
      const r = await burst(mesh, url, `warm${marker.slice(6)}`, 5, 1);
      return r.mtls === 0 && r.statuses['200'] === 5;
    });
    const r = await burst(mesh, url, marker, 50, 4);
    assert.deepEqual(r, { statuses: { '200': 50 }, mtls: 0, echoed: 50 });
    await mesh.until('the capture is written', 60_000, () => taps.every((tp) => tp.read().indexOf(marker) > 0));
    await Promise.all(taps.map((tp) => tp.stop()));
    for (const tp of taps) {
      const text = tp.read();
      for (const form of [`/path-${marker}`, `x-secret: ${marker}`, `{"secret":"${marker}"}`]) {
        assert.ok(text.indexOf(form) > 0, `${tp.name}: ${form} is readable`);
      }
    }
  });
});
