/** Weft: two data planes, each a process with the flags it has in a mesh. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import proxyFlags from '../../packages/cli/proxy-flags.json' with { type: 'json' };
import { bundle } from '../../packages/cli/src/bundle.ts';
import { type Chain, type Kind, otherPaths, type Peer, type Stage } from '../stage.ts';
import type { SideConfig } from './weft-side.ts';

const flags = [...proxyFlags, '--disable-warning=ExperimentalWarning'];
const source = path.join(import.meta.dirname, 'weft-side.ts');
const folder = path.join(import.meta.dirname, '../../node_modules/.cache/weft/bench');
// As the supervisor does: compiled code is kept, and a proxy is one file.
const environment = { NODE_COMPILE_CACHE: path.join(folder, 'code') };
const PORTS = { outbound: 15_001, mesh: 15_008 };

export const weft: Peer = {
  name: 'weft',
  needs: {},
  kinds: ['http', 'grpc', 'tcp', 'websocket'],
  version() {
    const { version } = JSON.parse(readFileSync(path.join(import.meta.dirname, '../../package.json'), 'utf8'));
    return `Weft ${version}, Node ${process.versions.node}`;
  },
  async start(stage: Stage, kind: Kind): Promise<Chain> {
    const script = await (primed ??= prime());
    const children = (['front', 'back'] as const).map((side) => {
      const config: SideConfig = {
        side,
        kind,
        front: stage.addresses.front,
        back: stage.addresses.back,
        app: stage.addresses.app,
        appPort: stage.appPorts[kind],
        certificate: stage.certificates[side],
        identities: { front: stage.certificates.front.spiffeId, back: stage.certificates.back.spiffeId },
        ports: PORTS,
        otherPaths: otherPaths(stage.rules),
      };
      const file = stage.file(`weft-${kind}-${side}.json`);
      writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
      return stage.start(
        'proxies',
        [process.execPath, ...flags, ...profileFlags(side, kind), script, file],
        environment,
      );
    });
    return stage.chain('weft', kind, children, { front: PORTS.outbound, back: PORTS.mesh });
  },
};

let primed: Promise<string> | undefined;

/** The proxy's one file; fills the folder of compiled code, as the first start of a mesh does. */
async function prime(): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const script = (await bundle(source, folder)) ?? source;
  execFileSync(process.execPath, [...flags, script], { env: { ...process.env, ...environment } });
  return script;
}

/** `BENCH_PROFILE=DIR` writes a CPU profile of each side there when it ends. */
function profileFlags(side: string, kind: Kind): string[] {
  const dir = process.env.BENCH_PROFILE;
  if (!dir) return [];
  mkdirSync(dir, { recursive: true });
  const name = kind === 'http' ? side : `${side}-${kind}`;
  return ['--cpu-prof', `--cpu-prof-dir=${path.resolve(dir)}`, `--cpu-prof-name=${name}.cpuprofile`];
}
