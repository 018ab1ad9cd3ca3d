import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadFiles } from '@weft/config';
import { ipv6Warnings } from './mesh.ts';

const PROCESS =
  'apiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: a, namespace: shop, labels: {app: a}}\nspec: {command: [run], ports: [{containerPort: 80}]}\n';

test('a service that asks for IPv6 is told where there is none', () => {
  const service = (name: string, spec: string) =>
    `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: shop}\nspec: {selector: {app: a}, ports: [{port: 80}]${spec}}\n`;
  const text = [
    service('four', ''),
    service('six', ', ipFamilies: [IPv6]'),
    service('both', ', ipFamilyPolicy: RequireDualStack'),
  ];
  const { model, problems } = loadFiles([{ path: 'a.yaml', text: [PROCESS, ...text].join('---\n') }]);
  assert.ok(model, JSON.stringify(problems));
  assert.deepEqual(ipv6Warnings(model, 'transparent', true), []);
  const explicit = ipv6Warnings(model, 'explicit', true);
  assert.equal(explicit.length, 2);
  assert.match(explicit.join(), /shop\/six asks for IPv6, with --capture explicit there is none.*shop\/both/);
  assert.match(ipv6Warnings(model, 'transparent', false)[0]!, /shop\/six asks for IPv6, this machine has none/);
});
