/**
 * A workload that runs other people's clients where they are to run: behind a sidecar. POST {argv, input, timeoutMs}
 * answers {code, out} once the program has ended (code -1: it was stopped at its time).
 */
import { spawn } from 'node:child_process';
import http from 'node:http';

const LIMIT = 4 << 20;

http
  .createServer((req, res) => {
    if (req.method === 'GET') {
      res.end('ready');
      return;
    }
    const parts = [];
    req.on('data', (p) => parts.push(p));
    req.on('end', () => {
      const { argv, input, timeoutMs, env } = JSON.parse(Buffer.concat(parts).toString());
      const child = spawn(argv[0], argv.slice(1), { stdio: 'pipe', env: { ...process.env, ...env } });
      let out = '';
      const keep = (chunk) => {
        if (out.length < LIMIT) out += chunk;
      };
      child.stdout.on('data', keep);
      child.stderr.on('data', keep);
      child.stdin.on('error', () => {});
      child.stdin.end(input ?? '');
      let late = false;
      const timer = setTimeout(() => {
        late = true;
        child.kill('SIGKILL');
      }, timeoutMs ?? 60_000);
      child.on('error', (error) => keep(`${error.message}\n`));
      child.on('close', (code) => {
        clearTimeout(timer);
        res.end(JSON.stringify({ code: late ? -1 : (code ?? 128), out }));
      });
    });
  })
  .listen(Number(process.env.PORT), process.env.HOST);
