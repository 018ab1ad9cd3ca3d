import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasFaults, loadFiles, removeFault, type SourceFile } from '@weft/config';
import { addedLines } from './commands/fault.ts';
import { type FaultWish, planFault } from './fault-plan.ts';

const process_ = (name: string, namespace = 'shop', more = ''): string => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: ${name}, namespace: ${namespace}, labels: { app: ${name.split('-')[0]}${more} } }
spec: { command: [x], ports: [{ name: http, containerPort: 8080 }] }
`;
const service = (name: string, namespace = 'shop'): string => `---
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: ${namespace} }
spec: { selector: { app: ${name} }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
`;
const rule = (name: string, hosts: string, more = ''): string => `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: ${name}, namespace: shop }
spec:
  hosts: ${hosts}${more}
  http:
    - route: [{ destination: { host: pay } }]
      timeout: 3s
`;
const BASE =
  service('pay') + service('cart') + process_('pay') + process_('cart') + process_('cart-2', 'shop', ', v: "2"');

const wish = (more: Partial<FaultWish> = {}): FaultWish => ({
  ...{ id: 'f1', service: 'pay', delay: '2s', percent: 10, headers: [], until: '2026-01-01T00:00:00Z', ...more },
});

function plan(texts: Record<string, string>, more: Partial<FaultWish> = {}) {
  const sources = Object.entries(texts).map(([path, text]): SourceFile => ({ path, text }));
  const { model, problems } = loadFiles(sources);
  assert.deepEqual(
    problems.filter((p) => p.severity === 'error'),
    [],
  );
  const made = planFault(sources, model!, wish(more), (name) => `mesh/${name}`);
  const after = loadFiles(made.sources);
  return { ...made, problems: after.problems.filter((p) => p.severity === 'error'), model: after.model };
}

test('into the VirtualService of the host, whatever it is called and however its host is written', () => {
  for (const hosts of ['[pay]', '[pay.shop.svc.cluster.local]']) {
    const texts = { 'a.yaml': BASE, 'b.yaml': rule('routes', hosts) };
    const made = plan(texts, { from: 'shop/cart-2', headers: [['X-Test', '1']], path: '/charge', abort: '503' });
    assert.deepEqual(
      [made.file, made.before, made.problems, made.write.host],
      ['b.yaml', texts['b.yaml'], [], undefined],
    );
    assert.deepEqual(
      [made.service, made.what],
      ['shop/pay', 'delay 2s and abort 503 for 10 % (from shop/cart-2, x-test: 1, /charge…)'],
    );
    const [first, plain] = made.model!.virtualServices[0]!.http;
    assert.deepEqual(first!.fault?.delay, { percent: 10, delayMs: 2000 });
    assert.equal(first!.fault?.abort?.httpStatus, 503);
    assert.deepEqual([first!.timeoutMs, plain!.fault], [3000, undefined]);
    assert.deepEqual(first!.match[0]!.sourceLabels, { app: 'cart', v: '2' });
    assert.equal(removeFault(made.after, 'f1'), texts['b.yaml']);
  }
});

test('into a file of its own where the host has none, or has one for a gateway alone', () => {
  const gateway = `---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: entry, namespace: shop }
spec: { selector: { app: cart }, servers: [{ port: { number: 8080, name: http, protocol: HTTP }, hosts: ["*"] }] }
`;
  for (const texts of [
    { 'a.yaml': BASE },
    { 'a.yaml': BASE + gateway + rule('out', '[pay]', '\n  gateways: [entry]') },
  ]) {
    const { file, before, write, model, notes } = plan(texts as Record<string, string>, {
      service: 'shop/pay',
      abort: 'UNAVAILABLE',
      delay: undefined,
    });
    assert.deepEqual([file, before, write.host, notes], ['mesh/weft-fault-pay.shop.yaml', undefined, 'pay', []]);
    const made = model!.virtualServices.find((vs) => vs.name === 'weft-fault-pay')!;
    assert.equal(made.http[0]!.fault?.abort?.grpcStatus, 14);
  }
  const one = plan({ 'a.yaml': BASE });
  const two = plan({ 'a.yaml': BASE, [one.file]: one.after }, { id: 'f2', percent: 5 });
  assert.deepEqual([two.file, two.problems], [one.file, []]);
  assert.match(two.notes[0]!, /has other faults: where both hold, the newer one does/);
  assert.ok(hasFaults(removeFault(two.after, 'f1')!));
});

test('what has no place, or no such name, is refused with what there is', () => {
  const refused = (more: Partial<FaultWish>, pattern: RegExp, texts: Record<string, string> = { 'a.yaml': BASE }) =>
    assert.throws(() => plan(texts, more), pattern);
  refused({ service: 'nothing' }, /no service "nothing"; there are: shop\/cart, shop\/pay/);
  refused({}, /"pay" is in several namespaces: say one of shop\/pay, other\/pay/, {
    'a.yaml': BASE + service('pay', 'other') + process_('pay', 'other'),
  });
  refused({ from: 'shop/none' }, /--from shop\/none: no such process; there are: shop\/cart, shop\/cart-2, shop\/pay/);
  refused({ path: 'charge' }, /--path begins with \//);
  refused({ delay: undefined }, /say --delay, --abort or both/);
  refused({}, /has the routes of pay, cart: a fault there would be for all of them/, {
    'a.yaml': BASE + rule('both', '[pay, cart]'),
  });
  refused({}, /has the routes of \*\.shop\.svc\.cluster\.local/, {
    'a.yaml': BASE + rule('wide', '["*.shop.svc.cluster.local"]'),
  });
  assert.match(
    plan({ 'a.yaml': BASE }, { from: 'shop/cart' }).notes[0]!,
    /shop\/cart-2 has the labels of shop\/cart: it holds there too/,
  );
  const wrong = plan({ 'a.yaml': BASE }, { delay: 'soon' });
  assert.match(wrong.problems[0]!.message, /duration|time/i);
});

test('the lines that were put in, with their numbers', () => {
  assert.equal(addedLines('a\nb\nc\n', 'a\nx\nb\ny\nc\n'), '    2 + x\n    4 + y');
  assert.equal(addedLines('', 'a\n'), '    1 + a');
});
