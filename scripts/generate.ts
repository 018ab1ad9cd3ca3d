/** Makes the code of our schemas anew: every package with a buf.gen.yaml. Commit the result with the schema's change. */
import { execFileSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const bin = join(root, 'node_modules', '.bin');
for (const config of globSync('packages/*/buf.gen.yaml', { cwd: root })) {
  const cwd = join(root, dirname(config));
  execFileSync(join(bin, 'buf'), ['generate'], {
    cwd,
    stdio: 'inherit',
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}` },
  });
  console.log(`generated ${dirname(config)}`);
}
