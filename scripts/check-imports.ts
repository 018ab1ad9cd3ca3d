/**
 * Enforces the layers of DESIGN section 3: a package imports only packages of lower layers, only by name, only what its
 * package.json declares; browser-safe packages import no `node:` module. Tests may import the testing kit and `node:`, and
 * no two of them use the same loopback network.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const LAYERS: Record<string, number> = {
  base: 0,
  wire: 1,
  plan: 1,
  engine: 2,
  model: 2,
  telemetry: 2,
  identity: 2,
  xds: 2,
  capture: 2,
  config: 3,
  host: 3,
  lab: 4,
  proxy: 5,
  control: 5,
  cli: 6,
  dashboard: 6,
};
const BROWSER_SAFE = new Set(['base', 'plan', 'engine', 'model', 'config', 'lab', 'telemetry']);
const root = resolve(import.meta.dirname, '..');
const problems: string[] = [];
let files = 0;
/** Test files run beside each other: where two listen at the same addresses, one of them fails by chance. */
const networks = new Map<string, string>();

for (const path of globSync('packages/*/src/**/*.ts', { cwd: root })) {
  if (path.includes('/gen/')) continue;
  files += 1;
  const name = path.split('/')[1] as string;
  const home = join(root, 'packages', name);
  const isTest = path.endsWith('.test.ts');
  const manifest = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as {
    dependencies?: Record<string, string>;
  };
  const text = readFileSync(join(root, path), 'utf8');
  for (const network of isTest ? new Set(text.match(/\b127\.\d+\.\d+/g)) : []) {
    const other = networks.get(network);
    if (network === '127.0.0') continue;
    if (other === undefined) networks.set(network, path);
    else problems.push(`${path}: ${network}.* is of ${other}: take another loopback network`);
  }
  for (const match of text.matchAll(
    /(?:^|\n)\s*(?:import|export)\s(?:[^'";]*?\sfrom\s)?['"]([^'"]+)['"]|import\(['"]([^'"]+)['"]\)/g,
  )) {
    const target = (match[1] ?? match[2]) as string;
    const line = text.slice(0, match.index).split('\n').length;
    const say = (what: string) => problems.push(`${path}:${line}: ${what}`);
    if (target.startsWith('.')) {
      if (relative(home, resolve(join(root, dirname(path)), target)).startsWith('..'))
        say(`${target} leaves the package: import @weft/… instead`);
    } else if (target.startsWith('node:')) {
      if (BROWSER_SAFE.has(name) && !isTest) say(`${target}: ${name} runs in a browser and imports no node: module`);
    } else if (target.startsWith('@weft/')) {
      const other = target.slice('@weft/'.length);
      if (other.includes('/')) say(`${target}: import only through the exports of @weft/${other.split('/')[0]}`);
      else if (other === 'testing') {
        if (!isTest) say(`${target}: only tests import the testing kit`);
      } else if (LAYERS[other] === undefined) say(`${target}: no such package`);
      else if ((LAYERS[other] as number) >= (LAYERS[name] as number) && !isTest)
        say(
          `${target}: layer ${LAYERS[name]} (${name}) may import only lower layers, ${other} is of layer ${LAYERS[other]}`,
        );
      else if (!isTest && manifest.dependencies?.[target] === undefined) say(`${target}: not in ${name}/package.json`);
    } else {
      const bare = target.startsWith('@') ? target.split('/').slice(0, 2).join('/') : (target.split('/')[0] as string);
      const declared = manifest.dependencies?.[bare] !== undefined;
      if (!isTest && !declared) say(`${bare}: not in ${name}/package.json`);
    }
  }
}
for (const problem of problems) console.error(problem);
console.log(`check-imports: ${files} files, ${problems.length} problems`);
process.exit(problems.length ? 1 : 0);
