import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'yaml';
import { addFault, type FaultEdit, type FaultScope, faultFile, hasFaults, removeFault } from './fault-edit.ts';

const TARGET = { kind: 'VirtualService', namespace: 'shop', name: 'pay' };
const FAULT = { delay: { percentage: { value: 10 }, fixedDelay: '2s' } };
const edit = (scope: Partial<FaultScope> = {}, id = 'f1', fault: object = FAULT): FaultEdit => ({
  ...{ id, fault: { ...fault }, comment: `weft fault ${id}, until later` },
  scope: { headers: [], ...scope },
});
const TEXT = `# People's own words.
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: pay # this one
  namespace: shop
spec:
  hosts: [pay]
  http:
    # charging is dear
    -   match:   # odd spaces
          - uri: { exact: /charge }
            method: { exact: POST }
          - uri: { prefix: /v1 }
        timeout: 2s
        route: [{ destination: { host: pay, subset: v2 } }]

    - route: # the rest
        - destination: { host: pay }
      fault: { abort: { httpStatus: 500, percentage: { value: 1 } } }
`;
const routesOf = (text: string): Record<string, any>[] => parse(text.slice(text.lastIndexOf('---\n') + 4)).spec.http;

/** What was added, after a look that to take it out leaves the text as it was. */
function added(text: string, e: FaultEdit): Record<string, any>[] {
  const out = addFault(text, TARGET, e);
  assert.equal(removeFault(out, e.id), text);
  assert.ok(hasFaults(out) && !hasFaults(text));
  assert.match(out, new RegExp(`name: weft-fault-${e.id}-0 # weft fault ${e.id}, until later\n`));
  const before = routesOf(text);
  assert.deepEqual(
    routesOf(out).filter((r) => !String(r.name).startsWith('weft-fault-')),
    before,
  );
  return routesOf(out).filter((r) => String(r.name).startsWith('weft-fault-'));
}

test('a copy with the fault stands before each route; to take them out leaves every byte as it was', () => {
  const [charge, rest] = added(TEXT, edit());
  const { name, fault, ...as } = charge!;
  assert.deepEqual([name, fault, as], ['weft-fault-f1-0', FAULT, routesOf(TEXT)[0]]);
  assert.deepEqual(rest!.fault, { ...routesOf(TEXT)[1]!.fault, ...FAULT }, 'beside the one that it has');
  assert.equal(rest!.match, undefined);
  assert.deepEqual(
    routesOf(addFault(TEXT, TARGET, edit())).map((r) => r.name),
    ['weft-fault-f1-0', undefined, 'weft-fault-f1-1', undefined],
  );
  const windows = TEXT.replaceAll('\n', '\r\n');
  const crlf = addFault(windows, TARGET, edit());
  assert.ok(!/[^\r]\n/.test(crlf));
  assert.equal(removeFault(crlf, 'f1'), windows);
});

test('a scope narrows each match; what can never be both is left out', () => {
  const source = { namespace: 'shop', labels: { app: 'cart' } };
  const [charge, rest] = added(TEXT, edit({ source, headers: [['x-test', '1']], path: '/charge' }));
  const own = { headers: { 'x-test': { exact: '1' } }, sourceNamespace: 'shop', sourceLabels: { app: 'cart' } };
  assert.deepEqual(charge!.match, [{ uri: { exact: '/charge' }, method: { exact: 'POST' }, ...own }]);
  assert.deepEqual(rest!.match, [{ uri: { prefix: '/charge' }, ...own }]);
  assert.deepEqual(
    added(TEXT, edit({ path: '/v1/x' })).map((r) => r.match),
    [[{ uri: { prefix: '/v1/x' } }], [{ uri: { prefix: '/v1/x' } }]],
  );
  assert.deepEqual(added(TEXT, edit({ path: '/' }))[0]!.match, routesOf(TEXT)[0]!.match);
  const with_ = (match: string) => TEXT.replace('method: { exact: POST }', match);
  assert.deepEqual(
    added(with_('headers: { X-Test: { prefix: "1" }, y: {} }'), edit({ headers: [['x-test', '1']] }))[0]!.match[0],
    {
      ...{ uri: { exact: '/charge' }, headers: { y: {}, 'x-test': { exact: '1' } } },
    },
  );
  assert.equal(
    added(with_('headers: { x-test: { exact: "2" } }'), edit({ headers: [['x-test', '1']] }))[0]!.match.length,
    1,
  );
  assert.equal(added(with_('sourceLabels: { app: web }'), edit({ source }))[0]!.match.length, 1);
  assert.equal(added(with_('sourceNamespace: other'), edit({ source }))[0]!.match.length, 1);
  assert.throws(
    () => addFault(TEXT.replace('prefix: /v1', 'regex: "/v.*"'), TARGET, edit({ path: '/v1' })),
    /leave --path out/,
  );
  assert.throws(
    () => addFault(with_('headers: { x-test: { regex: "a+" } }'), TARGET, edit({ headers: [['x-test', '1']] })),
    /leave -H out/,
  );
});

test('lists in one line, and JSON', () => {
  const flow = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: pay, namespace: shop }
spec: { hosts: [pay], http: [ { match: [{ uri: { prefix: /a } }], route: [ { destination: { host: pay } } ] },
  { route: [{ destination: { host: pay } }] } ] } # the end
`;
  const both = { ...parse(flow) };
  for (const text of [flow, JSON.stringify(both, null, 2), JSON.stringify(both)]) {
    const out = addFault(text, TARGET, edit());
    assert.deepEqual(
      parse(out).spec.http.map((r: any) => r.fault?.delay.fixedDelay),
      ['2s', undefined, '2s', undefined],
    );
    assert.equal(removeFault(out, 'f1'), text);
  }
});

test('several faults: the newest first, each taken out for itself, in any order', () => {
  const one = addFault(TEXT, TARGET, edit({}, 'f1'));
  const two = addFault(one, TARGET, edit({ path: '/charge' }, 'f2'));
  assert.deepEqual(
    routesOf(two).map((r) => r.name?.slice('weft-fault-'.length)),
    ['f2-0', 'f1-0', undefined, 'f2-1', 'f1-1', undefined],
  );
  assert.equal(removeFault(two, 'f2'), one);
  assert.equal(removeFault(two, 'f1'), addFault(TEXT, TARGET, edit({ path: '/charge' }, 'f2')));
  assert.equal(removeFault(removeFault(two, 'f1')!, 'f2'), TEXT);
  const ten = addFault(TEXT, TARGET, edit({}, 'f10'));
  assert.equal(removeFault(ten, 'f1'), undefined, 'another one');
});

test('what was changed in the meantime stays', () => {
  const out = addFault(TEXT, TARGET, edit());
  const changed = out
    .replace('timeout: 2s\n        route: [', 'timeout: 3s\n        route: [')
    .replace('hosts: [pay]', 'hosts: [pay, pay2]');
  assert.notEqual(changed, out);
  const back = removeFault(changed, 'f1')!;
  assert.equal(hasFaults(back), false);
  assert.match(back, /hosts: \[pay, pay2\]/);
  // The route that a copy stood before is gone.
  const last = out.slice(0, out.indexOf('    - route: # the rest'));
  assert.deepEqual(routesOf(removeFault(last, 'f1')!).length, 1);
  assert.equal(removeFault('a: [', 'f1'), undefined);
});

test('a file of our own where a service has no VirtualService; what cannot have a fault is refused', () => {
  const text = faultFile({ ...TARGET, name: 'weft-fault-pay' }, 'pay', edit({ headers: [['x-test', '1']] }));
  const { spec, metadata } = parse(text);
  assert.deepEqual(
    [metadata.name, spec.hosts, spec.http.length, spec.http[0].fault],
    ['weft-fault-pay', ['pay'], 2, FAULT],
  );
  assert.deepEqual(spec.http[0].route, spec.http[1].route);
  assert.equal(hasFaults(removeFault(text, 'f1')!), false);
  assert.throws(() => addFault(TEXT, { ...TARGET, name: 'other' }, edit()), /shop\/other has no http routes/);
  assert.throws(() => addFault(TEXT.replace('http:', 'tcp:'), TARGET, edit()), /has no http routes/);
  const only = TEXT.slice(0, TEXT.indexOf('    - route: # the rest'));
  assert.throws(() => addFault(only, TARGET, edit({ path: '/other' })), /no route of .* has requests of that kind/);
  assert.throws(
    () => addFault(TEXT.replace('timeout: 2s', 'delegate: { name: x }'), TARGET, edit()),
    /routes of a delegate/,
  );
});
