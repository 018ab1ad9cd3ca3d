#!/usr/bin/env node
// `weft`: re-executes itself with the Node that the project needs. See runtime.mjs.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { root, runScript } from './runtime.mjs';

const args = process.argv.slice(2);
const flags =
  args[0] === 'proxy' ? JSON.parse(readFileSync(path.join(root, 'packages/cli/proxy-flags.json'), 'utf8')) : [];
runScript(path.join(root, 'packages', 'cli', 'src', 'main.ts'), args, flags);
