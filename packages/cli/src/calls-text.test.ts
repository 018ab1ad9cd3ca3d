import assert from 'node:assert/strict';
import { test } from 'node:test';
import { callText, refusedBy } from './calls-text.ts';

test('a call that was refused: nothing of it is cut, and no line is longer than a terminal', () => {
  const call = {
    ...{ requests: 12, principal: 'cluster.local/ns/shop/sa/frontend', source: '10.0.0.1' },
    ...{ workload: 'shop/a-workload-whose-name-is-long', port: 8080, lastMs: Date.UTC(2026, 0, 2, 3, 4, 5) },
    ...{ method: 'POST', path: '/checkout/{*}/lines/of/some/length' },
  };
  const text = callText(call, refusedBy('none', 'AuthorizationPolicy/shop/a-policy-whose-name-is-long-as-well'));
  for (const line of text.split('\n')) assert.ok(line.length <= 100, line);
  const words = text.replace(/\s+/g, ' ');
  assert.match(
    words,
    /^ 12 POST \/checkout\/\{\*\}\/lines\/of\/some\/length to shop\/a-workload-whose-name-is-long:8080 by /,
  );
  assert.match(words, /by cluster.local\/ns\/shop\/sa\/frontend no ALLOW rule matches \(the first policy: Auth/);
  assert.match(words, /, last 2026-01-02 03:04:05$/);
  const tcp = callText(
    { ...call, principal: '', method: '', path: '' },
    refusedBy('shop/p', 'AuthorizationPolicy/shop/p'),
  );
  assert.match(tcp, /^ {6}12 {2}TCP {2}to .* by 10.0.0.1 \(no certificate\)\n {10}shop\/p: Auth/);
});
