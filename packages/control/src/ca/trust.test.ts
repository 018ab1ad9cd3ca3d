import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { silentLogger, VirtualClock } from '@weft/base';
import { controlPlaneId, createAuthority, JwtKeys, rootIdOf } from '@weft/identity';
import { PartSchema } from '@weft/plan';
import { State } from '../state.ts';
import { MeshTrust } from './trust.ts';

const dir = mkdtempSync(join(tmpdir(), 'weft-trust-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const CART = 'spiffe://cluster.local/ns/shop/sa/cart';
const DAY_MS = 86_400_000;

function partOf(trust: MeshTrust) {
  const { kind } = fromBinary(PartSchema, trust.part);
  assert.equal(kind.case, 'trust');
  return kind.value as Extract<typeof kind, { case: 'trust' }>['value'];
}

test('revocations are in what proxies get, outlive a restart, and end as certificates do', async () => {
  const clock = new VirtualClock(Date.now());
  const authority = await createAuthority({ dir: join(dir, 'ca'), trustDomain: 'cluster.local', clock });
  const jwtKeys = await JwtKeys.open(join(dir, 'jwt'), clock);
  const open = () => new MeshTrust(authority, jwtKeys, new State(join(dir, 'state'), silentLogger), clock);
  let trust = open();
  let changes = 0;
  trust.onChange(() => changes++);
  trust.revoke('00:4F:2A');
  trust.revoke('4f2a');
  trust.revoke(CART);
  assert.equal(changes, 3);
  trust = open();
  assert.equal(trust.revoked.length, 2);
  const part = partOf(trust);
  assert.deepEqual(
    part.revoked.map((r) => [r.issuer, r.serial]),
    [[authority.issuer, '4f2a']],
  );
  assert.deepEqual(part.revokedIds, [CART]);
  const { revocations } = trust.current.bundle;
  assert.ok(revocations.refusesId(CART) && revocations.refusesCertificate(authority.issuer, '4F2A'));
  assert.ok(!revocations.refusesCertificate('another key', '4F2A'));

  // While two keys are believed, the number counts for certificates of both.
  await authority.rotate('distribute');
  assert.equal(partOf(trust).revoked.length, 2);
  await authority.rotate('back');

  assert.throws(() => trust.revoke(controlPlaneId('cluster.local')), { code: 'control/own-identity' });
  assert.throws(() => trust.revoke('cart'), { code: 'identity/bad-serial' });
  assert.throws(() => trust.restore('ff'), { code: 'control/not-revoked' });
  clock.advance(91 * DAY_MS);
  assert.deepEqual(
    open().revoked.map((r) => r.id || r.serial),
    [CART],
  );
});

test("a Workload API's roots are believed beside the CA's until they are forgotten, and say whose certificate is current", async () => {
  const clock = new VirtualClock(Date.now());
  const authority = await createAuthority({ dir: join(dir, 'beside'), trustDomain: 'cluster.local', clock });
  const agent = await createAuthority({ dir: join(dir, 'agent'), trustDomain: 'cluster.local', clock });
  const jwtKeys = await JwtKeys.open(join(dir, 'jwt'), clock);
  const open = () => new MeshTrust(authority, jwtKeys, new State(join(dir, 'state3'), silentLogger), clock);
  let trust = open();
  const signers = (a: typeof agent) => [a.issuer, rootIdOf(new X509Certificate(a.rootPem).publicKey)];
  const said = () => [partOf(trust).workloadApi, trust.current.bundle.rootsOf('cluster.local').length];
  const current = () => [trust.isCurrent(signers(authority)), trust.isCurrent(signers(agent))];
  assert.deepEqual(
    [said(), current()],
    [
      ['', 1],
      [true, false],
    ],
  );
  trust.setWorkloadApi({ socket: '/agent.sock', rootPem: agent.rootPem });
  trust = open();
  assert.deepEqual(
    [said(), current()],
    [
      ['/agent.sock', 2],
      [false, true],
    ],
  );
  trust.revoke('4f2a');
  assert.ok(trust.current.bundle.revocations.refusesCertificate('any key of its own', '4f2a'));
  trust.setWorkloadApi({ socket: '', rootPem: agent.rootPem });
  assert.deepEqual(
    [said(), current()],
    [
      ['', 2],
      [true, false],
    ],
  );
  trust.setWorkloadApi(undefined);
  assert.deepEqual(
    [said(), current()],
    [
      ['', 1],
      [true, false],
    ],
  );
  assert.throws(() => trust.setWorkloadApi({ socket: '/agent.sock', rootPem: '' }), {
    code: 'control/bad-workload-api',
  });
  trust.federate('partner.example', agent.rootPem);
  const theirs = { socket: '/agent.sock', rootPem: agent.rootPem };
  assert.throws(() => trust.setWorkloadApi(theirs), { code: 'control/bad-workload-api' });
});

test('a root is believed for its own trust domain alone, and the own root for no other', async () => {
  const clock = new VirtualClock(Date.now());
  const authority = await createAuthority({ dir: join(dir, 'own'), trustDomain: 'cluster.local', clock });
  const partner = await createAuthority({ dir: join(dir, 'partner'), trustDomain: 'partner.example', clock });
  const jwtKeys = await JwtKeys.open(join(dir, 'jwt'), clock);
  const open = () => new MeshTrust(authority, jwtKeys, new State(join(dir, 'state2'), silentLogger), clock);
  let trust = open();
  trust.federate('partner.example', partner.rootPem);
  trust = open();
  const { bundle } = trust.current;
  assert.equal(bundle.rootsOf('partner.example').length, 1);
  assert.equal(bundle.rootsOf('cluster.local').length, 1);
  assert.notEqual(
    bundle.rootsOf('partner.example')[0].fingerprint256,
    bundle.rootsOf('cluster.local')[0].fingerprint256,
  );
  assert.equal(partOf(trust).federated[0].trustDomain, 'partner.example');
  const refused = { code: 'control/bad-federation' };
  assert.throws(() => trust.federate('cluster.local', partner.rootPem), refused);
  assert.throws(() => trust.federate('other.example', authority.rootPem), refused);
  assert.throws(() => trust.federate('Other/Example', partner.rootPem), refused);
  trust.setAliases(['old.example']);
  assert.deepEqual(partOf(trust).aliases, ['old.example']);
  assert.equal(trust.current.bundle.rootsOf('old.example').length, 1);
  assert.notEqual(trust.current.bundle.jwtKeysOf('old.example'), '');
  trust.setAliases([]);
  assert.equal(trust.current.bundle.rootsOf('old.example').length, 0);
  trust.federate('partner.example', '');
  assert.equal(open().current.bundle.rootsOf('partner.example').length, 0);
});
