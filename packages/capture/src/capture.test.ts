import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { openSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { hostPort } from '@weft/base';
import {
  captureRules,
  chooseSubnet,
  dialMarked,
  inNamespace,
  inNamespaceArgv,
  inNetworkOnlyArgv,
  LoopbackRange,
  MeshNetwork,
  meshNamespaces,
  originalDestination,
  PROXY_MARK,
  parseCidr,
  removeMesh,
  runAsArgv,
  transparentUnavailable,
} from './index.ts';

const run = promisify(execFile);
const skip = transparentUnavailable() ?? false;

test('a subnet avoids what is routed, and is the same again', () => {
  const first = chooseSubnet('shop', []);
  assert.equal(chooseSubnet('shop', []), first);
  assert.notEqual(chooseSubnet('shop', [`10.${first}.9.0/24`]), first);
  assert.notEqual(chooseSubnet('shop', [`10.${first}.255.53`]), first);
  assert.throws(() => chooseSubnet('shop', ['10.0.0.0/8']), /--capture explicit/);
  assert.equal(parseCidr('10.1.2.3/33'), undefined);
});

test('explicit addresses differ and avoid the ends of a block', async (t) => {
  const range = await LoopbackRange.hold('shop');
  t.after(() => range.release());
  const seen = new Set<string>();
  for (let n = 1; n <= 1000; n++) seen.add(range.next());
  assert.equal(seen.size, 1000);
  for (const a of seen) assert.doesNotMatch(a, /^127\.0\.|\.(0|255)$/);
});

test('two that lead to the same range of explicit addresses do not meet; the same name gets the same again', async (t) => {
  const one = await LoopbackRange.hold('twice');
  const two = await LoopbackRange.hold('twice');
  t.after(() => two.release());
  const [first, other] = [one.next(), two.next()];
  assert.notEqual(first, other);
  one.release();
  const again = await LoopbackRange.hold('twice');
  t.after(() => again.release());
  assert.equal(again.next(), first);
});

test('an application is never started as the proxy', () => {
  assert.throws(() => runAsArgv({ uid: 1337, gid: 1 }, { setpriv: true }), /1337/);
  assert.ok(runAsArgv({ uid: 7, gid: 7 }, { setpriv: true }).includes('--no-new-privs'));
});

test('rules name every exempt port once', () => {
  assert.match(captureRules({ exemptInbound: [1, 2] }), /tcp dport \{ 1, 2 \} return/);
  assert.doesNotMatch(captureRules({ captureUdp: false }), /port-unreachable/);
});

/** Runs a Node script in a namespace as a given uid; resolves with its first line of output. */
function inside(argv: string[], uid: number, script: string): { line: Promise<string>; kill(): void } {
  const child = spawn(argv[0]!, [
    ...argv.slice(1),
    'setpriv',
    '--reuid',
    String(uid),
    '--regid',
    String(uid),
    '--clear-groups',
    '--',
    process.execPath,
    '-e',
    script,
  ]);
  let out = '';
  const line = new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (d) => {
      out += d;
      if (out.includes('\n')) resolve(out.split('\n')[0]!);
    });
    child.stderr.on('data', (d) => {
      out += d;
    });
    child.on('close', () => reject(new Error(out)));
  });
  return { line, kill: () => child.kill('SIGKILL') };
}

test('a namespace captures what leaves and enters, exempts the proxy, and fails closed', { skip }, async (t) => {
  const mesh = `t${process.pid}`;
  const network = new MeshNetwork(mesh);
  const servers: net.Server[] = [];
  try {
    const a = network.add('a-1', { rules: {}, dnsSearch: ['default.svc.cluster.local'] });
    const b = network.add('b-1', { rules: {} });
    const argv = inNamespaceArgv(a.namespace);
    const dial = (uid: number, target: string) =>
      inside(
        argv,
        uid,
        `const [h,p]='${target}'.split(':');const s=require('net').connect(+p,h);s.on('data',d=>{console.log(String(d));s.destroy()});s.on('error',e=>console.log(e.code))`,
      ).line;

    const dial6 = (uid: number, host: string, port: number) =>
      inside(
        argv,
        uid,
        `const s=require('net').connect(${port},'${host}');s.on('data',d=>{console.log(String(d));s.destroy()});s.on('error',e=>console.log(e.code))`,
      ).line;
    const { address6 } = b;
    if (address6 === undefined) t.diagnostic('this machine has no IPv6: it was not tried');

    // Without a proxy: nothing leaves, nothing enters.
    if (address6) {
      assert.equal(await dial6(65534, address6, 9999), 'ECONNREFUSED');
      assert.equal(await dial6(65534, '2001:2::f0f0:5', 80), 'ECONNREFUSED');
    }
    assert.equal(await dial(65534, '240.240.0.5:80'), 'ECONNREFUSED');
    assert.equal(await dial(65534, `${b.address}:9999`), 'ECONNREFUSED');
    const open = net.createServer((s) => s.end('direct\n'));
    inNamespace(openSync(`/run/netns/${b.namespace}`, 'r'), () => open.listen(9999));
    servers.push(open);
    for (const address of address6 ? [b.address, address6] : [b.address]) {
      await new Promise<void>((resolve) => {
        const s = net.connect(9999, address);
        s.on('error', () => resolve());
        s.on('data', () => assert.fail('an uncaptured connection reached the application'));
      });
    }

    // With a listener on 15001 and 15006: the original destination is known.
    const fd = openSync(`/run/netns/${a.namespace}`, 'r');
    for (const port of [15001, 15006]) {
      const server = net.createServer((s) => {
        const d = originalDestination(s);
        s.on('error', () => {});
        s.end(`${port} ${d && hostPort(d.host, d.port)}\n`);
      });
      inNamespace(fd, () => server.listen(port));
      servers.push(server);
    }
    assert.equal(await dial(65534, '240.240.0.5:80'), '15001 240.240.0.5:80');
    assert.equal(await dial(65534, `${b.address}:9999`), `15001 ${b.address}:9999`);
    const answer = await new Promise<string>((resolve, reject) => {
      const s = net.connect(8123, a.address);
      s.on('data', (d) => resolve(String(d).trim()));
      s.on('error', reject);
    });
    assert.equal(answer, `15006 ${a.address}:8123`);

    if (address6) {
      assert.equal(await dial6(65534, '2001:2::f0f0:5', 80), '15001 [2001:2::f0f0:5]:80');
      assert.equal(await dial6(65534, address6, 9999), `15001 [${address6}]:9999`);
      const answer6 = await new Promise<string>((resolve, reject) => {
        const s = net.connect(8123, a.address6!);
        s.on('data', (d) => resolve(String(d).trim()));
        s.on('error', reject);
      });
      assert.equal(answer6, `15006 [${a.address6}]:8123`);
    }

    // The proxy's uid and mark pass by; b refuses plaintext by itself.
    assert.equal(await dial(1337, `${network.gateway}:1`), 'ECONNREFUSED');
    const host = net.createServer((s) => s.end('host\n')).listen(0, network.gateway);
    servers.push(host);
    await new Promise((r) => host.once('listening', r));
    const port = (host.address() as net.AddressInfo).port;
    assert.equal(await dial(1337, `${network.gateway}:${port}`), 'host');
    assert.equal(await dial(65534, `${network.gateway}:${port}`), `15001 ${network.gateway}:${port}`);
    const marked = await new Promise<string>((resolve, reject) => {
      const s = dialMarked(network.gateway, port, { mark: PROXY_MARK, namespaceFd: fd });
      s.on('data', (d) => resolve(String(d).trim()));
      s.on('end', () => s.end()); // it stays half-open otherwise
      s.on('error', reject);
    });
    assert.equal(marked, 'host');

    // Nobody on the bridge tells this machine or a workload where to send its packets.
    const accepts = 'cat /proc/sys/net/ipv6/conf/eth0/accept_ra /proc/sys/net/ipv6/conf/eth0/accept_redirects';
    if (address6) {
      assert.equal(execFileSync(argv[0]!, [...argv.slice(1), 'sh', '-c', accepts], { encoding: 'utf8' }), '0\n0\n');
      assert.equal(readFileSync(`/proc/sys/net/ipv6/conf/${network.bridge}/accept_ra`, 'utf8'), '0\n');
    }

    // An application that asked to be root cannot take the rules away, nor lead its traffic past them.
    const root = [...argv, ...runAsArgv({ uid: 0, gid: 0 }, { setpriv: true })];
    for (const command of [
      ['nft', 'flush', 'ruleset'],
      ['ip', 'link', 'add', 'x', 'type', 'dummy'],
      ['nsenter', '--net=/proc/1/ns/net', 'true'],
    ])
      assert.throws(() => execFileSync(root[0]!, [...root.slice(1), ...command], { stdio: 'pipe' }), command.join(' '));
    assert.equal(execFileSync(root[0]!, [...root.slice(1), 'id', '-u'], { encoding: 'utf8' }).trim(), '0');
    assert.equal(await dial(65534, `${network.gateway}:${port}`), `15001 ${network.gateway}:${port}`);

    // UDP other than DNS is refused at once, not swallowed.
    const udp = inside(
      argv,
      65534,
      `const s=require('dgram').createSocket('udp4');s.on('error',e=>console.log(e.code));s.connect(9,'${b.address}',()=>s.send('x',e=>{if(e){console.log(e.code);process.exit()}}))`,
    );
    assert.match(await udp.line, /ECONNREFUSED|EPERM/);
    udp.kill();
    const dns = inside(
      argv,
      65534,
      `console.log(require('dns').getServers()[0], require('fs').readFileSync('/etc/resolv.conf','utf8').includes('search default'))`,
    );
    assert.equal(await dns.line, '127.0.0.1 true');
    const { stdout } = await run(inNetworkOnlyArgv(a.namespace)[0]!, [
      ...inNetworkOnlyArgv(a.namespace).slice(1),
      'ip',
      '-4',
      '-o',
      'address',
      'show',
      'eth0',
    ]);
    assert.match(stdout, new RegExp(a.address));
  } finally {
    for (const s of servers) s.close();
    network.close();
  }
  assert.deepEqual(meshNamespaces(mesh), []);
  assert.doesNotMatch(execFileSync('ip', ['link'], { encoding: 'utf8' }), new RegExp(network.bridge));
});

test('what a killed run left is removed by name, and another mesh is not touched', { skip }, () => {
  const mesh = `l${process.pid}`;
  const other = new MeshNetwork(`${mesh}-2`);
  const left = new MeshNetwork(mesh);
  try {
    left.add('x-1');
    other.add('x-1');
    assert.equal(removeMesh(mesh).length, 2);
    assert.deepEqual(removeMesh(mesh), []);
    assert.equal(meshNamespaces(`${mesh}-2`).length, 1);
  } finally {
    left.close();
    other.close();
  }
});

test('an application dies with its parent although it changed its uid', { skip }, async () => {
  const chain = runAsArgv({ uid: 65534, gid: 65534 }, { setpriv: true });
  const script = `const c=require('child_process').spawn(${JSON.stringify(chain[0])},${JSON.stringify([...chain.slice(1), 'sleep', '60'])});setTimeout(()=>console.log(c.pid),300)`;
  const parent = spawn(process.execPath, ['-e', script]);
  const pid = Number(await new Promise((r) => parent.stdout.once('data', (d) => r(String(d)))));
  process.kill(pid, 0);
  parent.kill('SIGKILL');
  for (let i = 0; i < 3000; i++) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await new Promise((r) => setTimeout(r, 20));
  }
  assert.fail(`${pid} survived its parent`);
});
