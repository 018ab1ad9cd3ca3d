#!/usr/bin/env node
// `weft`: re-executes itself with the Node that the project needs. See runtime.mjs.
import path from 'node:path';
import { root, runScript } from './runtime.mjs';

const args = process.argv.slice(2);
// A proxy's objects die young: a larger nursery costs memory and saves nothing (measured).
const flags = args[0] === 'proxy' ? ['--max-semi-space-size=4'] : [];
runScript(path.join(root, 'packages', 'cli', 'src', 'main.ts'), args, flags);
