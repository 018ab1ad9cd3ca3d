import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { WeftError } from '@weft/base';
import { type Command, Option } from 'commander';
import {
  askControl,
  chooseMesh,
  type MeshOption,
  meshOption,
  type OutputOption,
  outputOption,
  print,
  printJson,
} from '../common.ts';
import { duration } from '../duration.ts';
import { example } from '../example.ts';
import { fingerprints, type JoinFile } from '../join-file.ts';
import { table } from '../table.ts';

interface Workload {
  instance: string;
  connected: boolean;
  holdsTrust: boolean;
  reissued: boolean;
}
interface CaStatus {
  trustDomain: string;
  phase: 'stable' | 'distribute' | 'issue';
  reversible: boolean;
  rootNotAfterMs: number;
  signerNotAfterMs: number;
  workloads: Workload[];
  revoked: { what: string; atMs: number }[];
  federated: { trustDomain: string; roots: number; notAfterMs: number }[];
  workloadApi: string;
}
type Step = 'distribute' | 'issue' | 'retire' | 'back';

const POLL_MS = 250;

/** `weft ca`: the mesh's certificate authority. */
export function addCa(program: Command): void {
  const ca = program
    .command('ca')
    .description('the certificate authority: its state, a new root, revocation, federation');
  example(
    ca
      .command('status')
      .description('which root signs, how far a new one has come at each workload, and what is revoked')
      .addOption(meshOption())
      .addOption(outputOption())
      .action(async (o: MeshOption & OutputOption) => {
        const status = await askCa(o);
        if (o.output === 'json') printJson(status);
        else print(render(status));
      }),
    'weft ca status',
  );
  example(
    ca
      .command('rotate')
      .description(
        'replace the root: all workloads believe both (distribute), get certificates by the new one (issue), the old one ends (retire); goes on where it was left',
      )
      .addOption(new Option('--step <step>', 'this step alone').choices(['distribute', 'issue', 'retire', 'back']))
      .option('--from <folder>', 'the next CA, as ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem')
      .option('--wait <time>', 'for all workloads, at each step', duration, 120_000)
      .option('--force', 'go on although workloads lag behind: they will be refused until they restart')
      .addOption(meshOption())
      .action(rotate),
    'weft ca rotate',
    'weft ca rotate --step back',
  );
  for (const [name, description, sample] of [
    [
      'revoke',
      'refuse a certificate (its serial number) or an identity on every proxy, and end what it has open',
      'spiffe://cluster.local/ns/shop/sa/cart',
    ],
    ['restore', 'take a revocation back', '4f2a91c07de04ab7a31f6e0c5a2b9d18'],
  ] as const) {
    example(
      ca
        .command(name)
        .description(description)
        .argument('<serial or SPIFFE id>')
        .addOption(meshOption())
        .action(async (what: string, o: MeshOption) => {
          await askCa(o, `ca-${name}`, { what });
          const left = await settle(o, (w) => !w.connected || w.holdsTrust, 5000);
          const all = left.length === 0 ? 'every connected proxy has it' : `not yet acknowledged by ${left.join(', ')}`;
          print(`${what} is ${name === 'revoke' ? 'revoked' : 'restored'}: ${all}`);
        }),
      `weft ca ${name} ${sample}`,
    );
  }
  example(
    ca
      .command('token')
      .description(
        "a join token, good once and for an hour; older ones of the same end. For an instance: a proxy that is started by hand shows it for its first certificate. For a host (as JSON, with the mesh's root): the file that weft host takes",
      )
      .argument('[instance]')
      .option('--host <name>', 'a name for the other machine')
      .option('--group <name>', 'the WorkloadGroup whose workloads it may run, and no others')
      .option('-n, --namespace <name>', 'of the group', 'default')
      .addOption(meshOption())
      .addOption(outputOption())
      .action(async (instance: string | undefined, o: MeshOption & OutputOption & HostTokenOptions) => {
        if (o.host !== undefined || o.group !== undefined) {
          if (instance !== undefined) throw new WeftError('usage', 'an instance, or --host and --group: not both');
          printJson(await hostToken(o));
          return;
        }
        if (instance === undefined) throw new WeftError('usage', 'say an instance, or --host and --group');
        const given = await askControl<{ token: string; identity: string; rootPem: string; trustDomain: string }>(
          chooseMesh(o.mesh),
          'POST',
          '/v1/tokens',
          { instance },
        );
        if (o.output === 'json') printJson(given);
        else print(given.token);
      }),
    'weft ca token payment-v1-0 -o json',
    'weft ca token --host vm1 --group payment-vm -n shop > vm1.join',
  );
  example(
    ca
      .command('federate')
      .description("believe another trust domain's workloads by its roots; without --roots no longer")
      .argument('<trust domain>')
      .option('--roots <file>', 'its root certificates in PEM form, or its SPIFFE bundle (JSON), with keys of tokens')
      .addOption(meshOption())
      .action(async (trustDomain: string, o: MeshOption & { roots?: string }) => {
        const rootPem = o.roots === undefined ? '' : readFileSync(o.roots, 'utf8');
        const { federated } = await askCa(o, 'ca-federate', { trustDomain, rootPem });
        print(`other trust domains that are believed: ${federated.map((f) => f.trustDomain).join(', ') || 'none'}`);
      }),
    'weft ca federate partner.example --roots partner.pem',
  );
  example(
    ca
      .command('workload-api')
      .description(
        "each proxy gets its own certificate from somebody else's SPIFFE Workload API (SPIRE's agent, say); off: from the mesh's CA again. The roots of both are believed",
      )
      .argument('<socket>', "path of its socket on each proxy's host, or off")
      .option('--wait <time>', 'for all workloads', duration, 60_000)
      .addOption(meshOption())
      .action(workloadApi),
    'weft ca workload-api /run/spire/sockets/agent.sock',
    'weft ca workload-api off',
  );
}

interface HostTokenOptions {
  host?: string;
  group?: string;
  namespace: string;
}

/** All that `weft host` needs, but the address. */
async function hostToken(o: MeshOption & HostTokenOptions): Promise<JoinFile> {
  const { host, group, namespace } = o;
  if (host === undefined || group === undefined) throw new WeftError('usage', 'say both --host and --group');
  const given = await askControl<Pick<JoinFile, 'mesh' | 'trustDomain' | 'token' | 'rootPem'>>(
    ...([chooseMesh(o.mesh), 'POST', '/v1/host-tokens', { host, namespace, group }] as const),
  );
  const { mesh, trustDomain, token, rootPem } = given;
  return { mesh, trustDomain, host, namespace, group, token, rootSha256: fingerprints(rootPem), rootPem };
}

function askCa(o: MeshOption, what?: string, body?: unknown): Promise<CaStatus> {
  const mesh = chooseMesh(o.mesh);
  return what ? askControl<CaStatus>(mesh, 'POST', `/v1/${what}`, body) : askControl<CaStatus>(mesh, 'GET', '/v1/ca');
}

/** Waits until `done` of all workloads; returns those for which it is not. */
async function settle(o: MeshOption, done: (w: Workload) => boolean, waitMs: number): Promise<string[]> {
  const end = performance.now() + waitMs;
  for (;;) {
    const { workloads } = await askCa(o);
    const left = workloads.filter((w) => !done(w)).map((w) => w.instance);
    if (left.length === 0 || performance.now() >= end) return left;
    await new Promise((r) => setTimeout(r, POLL_MS));
  }
}

async function workloadApi(given: string, o: MeshOption & { wait: number }): Promise<void> {
  const socket = given === 'off' ? '' : resolve(given.replace(/^unix:(\/\/)?/, ''));
  await askCa(o, 'ca-workload-api', socket === '' ? { step: 'leave' } : { step: 'use', socket });
  const left = await settle(o, (w) => w.connected && w.holdsTrust && w.reissued, o.wait);
  const from = socket === '' ? "the mesh's CA" : socket;
  print(`certificates come from ${from}${left.length > 0 ? `; not yet at ${left.join(', ')}` : ', at every workload'}`);
  // Before all have certificates by the CA its roots are needed.
  if (left.length === 0 && socket === '') await askCa(o, 'ca-workload-api', { step: 'forget' });
  if (left.length > 0)
    throw new WeftError(
      'ca-workload-api',
      'these go on with the certificates that they have: their logs ("weft logs NAME --proxy") say what they were answered',
    );
}

async function rotate(o: MeshOption & { step?: Step; from?: string; wait: number; force?: boolean }): Promise<void> {
  const from = o.from === undefined ? undefined : resolve(o.from);
  let { phase } = await askCa(o);
  const next = { stable: 'distribute', distribute: 'issue', issue: 'retire' } as const;
  const steps: Step[] = [];
  if (o.step) steps.push(o.step);
  else for (let at = phase; steps.at(-1) !== 'retire'; at = next[at] as typeof phase) steps.push(next[at]);
  for (const step of steps) {
    await ready(o, step);
    ({ phase } = await askCa(o, 'ca-rotate', { step, ...(step === 'distribute' ? { from } : {}) }));
    // A proxy connects anew with each certificate: one that is away for the moment is waited for.
    const done = (w: Workload) => w.connected && w.holdsTrust && (phase !== 'issue' || w.reissued);
    const left = await settle(o, done, o.wait);
    print(`${step}: ${describe(phase)}${left.length > 0 ? `; not yet at ${left.join(', ')}` : ', at every workload'}`);
    if (left.length > 0 && !o.force)
      throw new WeftError(
        'ca-rotate',
        'workloads lag behind: "weft ca status" shows them, "weft ca rotate" goes on, "weft ca rotate --step back" undoes the last step',
      );
  }
}

/** Refuses a step that would leave somebody behind: who does not believe the new root, or lives by the old one. */
async function ready(o: MeshOption & { force?: boolean }, step: Step): Promise<void> {
  if (o.force || (step !== 'issue' && step !== 'retire')) return;
  const { workloads } = await askCa(o);
  const behind = workloads.filter((w) => !w.connected || !w.holdsTrust || (step === 'retire' && !w.reissued));
  if (behind.length === 0) return;
  const names = behind.map((w) => `${w.instance} (${w.connected ? 'lags behind' : 'not connected'})`).join(', ');
  throw new WeftError(
    'ca-rotate',
    `the step ${step} would cut off ${names}: bring them up or remove them, or say --force`,
  );
}

function describe(phase: CaStatus['phase']): string {
  if (phase === 'distribute') return 'both roots are believed, the old one signs';
  if (phase === 'issue') return 'both roots are believed, the new one signs';
  return 'one root is believed';
}

function render(s: CaStatus): string {
  const day = (ms: number) => new Date(ms).toISOString();
  const by = s.workloadApi === '' ? 'signing root' : 'Workload API';
  const lines = [
    `trust domain ${s.trustDomain}: ${describe(s.phase)}`,
    ...(s.workloadApi === '' ? [] : [`proxies get their certificates from the Workload API on ${s.workloadApi}`]),
    `root ends ${day(s.rootNotAfterMs)}, signing certificate ends ${day(s.signerNotAfterMs)}`,
    '',
    table(
      ['WORKLOAD', 'CONNECTED', 'HOLDS TRUST', 'CERTIFICATE BY'],
      s.workloads.map((w) => [
        w.instance,
        w.connected ? 'yes' : 'no',
        w.holdsTrust ? 'yes' : 'no',
        !w.connected ? '-' : w.reissued ? by : 'other root',
      ]),
    ),
  ];
  if (s.revoked.length > 0)
    lines.push(
      '',
      table(
        ['REVOKED', 'SINCE'],
        s.revoked.map((r) => [r.what, day(r.atMs)]),
      ),
    );
  if (s.federated.length > 0)
    lines.push(
      '',
      table(
        ['TRUST DOMAIN', 'ROOTS', 'FIRST ENDS'],
        s.federated.map((f) => [f.trustDomain, f.roots, day(f.notAfterMs)]),
      ),
    );
  return lines.join('\n');
}
