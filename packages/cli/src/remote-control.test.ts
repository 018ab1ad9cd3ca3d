/** What `weft host` says where it cannot join: one line each, before anything is sent. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createServer } from 'node:tls';
import { silentLogger, VirtualClock } from '@weft/base';
import { type Authority, controlPlaneId, createAuthority, createKeyAndCsr } from '@weft/identity';
import { fingerprints, type JoinFile, readJoinFile } from './join-file.ts';
import { RemoteControl } from './remote-control.ts';

const dir = mkdtempSync(join(tmpdir(), 'weft-remote-'));
const closers: (() => void)[] = [() => rmSync(dir, { recursive: true, force: true })];
after(() => {
  for (const close of closers.reverse()) close();
});
const trustDomain = 'cluster.local';
let made = 0;
const authority = (clock?: VirtualClock) =>
  createAuthority({ dir: join(dir, `ca${made++}`), trustDomain, ...(clock && { clock }) });

/** A TLS server with a certificate for this id; returns its port. */
async function serve(ca: Authority, spiffeId: string, ttlMs = 3_600_000): Promise<number> {
  const { keyPem, csrPem } = await createKeyAndCsr();
  const { chainPem } = await ca.sign(csrPem, { spiffeId, ttlMs });
  const server = createServer({ key: keyPem, cert: chainPem + ca.rootPem, ALPNProtocols: ['h2'] });
  server.on('tlsClientError', () => {});
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {});
    socket.on('data', () => assert.fail('nothing is said to who is not believed'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.7.33.1', resolve));
  closers.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

const fileOf = (ca: Authority): JoinFile => ({
  ...{ mesh: 'shop', trustDomain, host: 'vm1', namespace: 'shop', group: 'vm', token: 'secret' },
  ...{ rootPem: ca.rootPem, rootSha256: fingerprints(ca.rootPem) },
});

function starting(file: JoinFile, port: number): Promise<unknown> {
  const control = { host: '127.7.33.1', port };
  const remote = new RemoteControl({ file, control, dir: join(dir, `host${made++}`), logger: silentLogger });
  return remote.start().finally(() => remote.stop());
}

test('another mesh, a clock that is wrong, somebody else, nobody', async () => {
  const [own, other] = [await authority(), await authority()];
  const file = fileOf(own);
  const id = controlPlaneId(trustDomain);
  const rejected = async (port: number, why: RegExp) => {
    await assert.rejects(starting(file, port), (error: Error) => {
      assert.match(error.message, why);
      assert.ok(!error.message.includes('\n') && !error.message.includes('secret'), error.message);
      return true;
    });
  };
  const root = file.rootSha256[0]!;
  await rejected(
    await serve(other, id),
    new RegExp(`is not under the root with the SHA-256 ${root}: it is another mesh`),
  );
  await rejected(
    await serve(own, 'spiffe://cluster.local/ns/shop/sa/vm'),
    /is not the control plane: peer is spiffe.*\/sa\/vm/,
  );
  await rejected(9, /127\.7\.33\.1:9 cannot be reached \(ECONNREFUSED\): is "weft up --listen ADDRESS" running there/);
  for (const [days, what] of [
    [-30, /expired at/],
    [30, /is not valid before/],
  ] as const) {
    const ca = await authority(new VirtualClock(Date.now() + days * 86_400_000));
    const port = await serve(ca, id);
    await assert.rejects(starting(fileOf(ca), port), (error: Error & { code: string }) => {
      assert.match(error.message, what);
      assert.match(
        error.message,
        /by the clock of this machine \(20.*\): set the clock of one of the two|set the clock/,
      );
      assert.equal(error.code, 'clock');
      return true;
    });
  }
});

test('the file of a token: what is wrong with it', async () => {
  const file = fileOf(await authority());
  const path = join(dir, 'vm1.join');
  const read = (text: string, fingerprint?: string) => {
    writeFileSync(path, text);
    return readJoinFile(path, fingerprint);
  };
  const text = JSON.stringify(file);
  assert.deepEqual(read(text), file);
  assert.deepEqual(read(text, file.rootSha256[0]!.replaceAll(':', '').toLowerCase()), file);
  assert.throws(() => read(text, 'AB:CD'), /its root has the SHA-256 .*, not AB:CD/);
  assert.throws(() => read('a token'), /is not what "weft ca token --host NAME --group GROUP" prints: it is no JSON/);
  assert.throws(() => read('null'), /mesh is missing/);
  assert.throws(() => read(JSON.stringify({ ...file, token: 5 })), /token is missing/);
  assert.throws(() => read(JSON.stringify({ ...file, rootPem: 'x' })), /rootPem holds no certificates/);
  assert.throws(() => readJoinFile(join(dir, 'none')), /cannot be read/);
});
