import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { AuthorizationAction as Action, PartSchema } from '@weft/plan';
import { type AuthorizationRequest, authorize, buildSnapshot, Subject } from './index.ts';

const SEED = 7;
/** Letters whose codes are far from each other. */
const WIDE = 'abé中';

test('of many rules the same one is found as by trying each in order', () => {
  const random = seededRandom(SEED);
  const below = (n: number): number => Math.floor(random.next() * n);
  const word = (alphabet: string, longest: number): string =>
    Array.from({ length: 1 + below(longest) }, () => alphabet[below(alphabet.length)]).join('');
  const pattern = (text: string): string => ['', '', '*', '{*}'].map((end) => text + end)[below(4)];
  const plain = (text: string): string => (below(3) === 0 ? `${text}*` : text);
  const scheme = (): string => ['', 'spiffe://'][below(2)];
  const several = <T>(make: () => T): T[] => Array.from({ length: 1 + below(2) }, make);
  let found = 0;
  let asked = 0;
  for (let set = 0; set < 150; set++) {
    const rules = Array.from({ length: 9 + below(60) }, (_, i) => {
      const way = below(6);
      return {
        ref: `r${i}`,
        from:
          way === 0
            ? several(() => ({
                principals: several(() => scheme() + plain(`td/ns/${word('ab', 3)}/sa/${word(WIDE, 2)}`)),
              }))
            : way === 1
              ? several(() => ({ namespaces: several(() => plain(word('ab', 3))) }))
              : way === 2
                ? [{ serviceAccounts: several(() => `${word('ab', 2)}/${word('ab', 2)}`) }]
                : [],
        to:
          way === 3
            ? several(() => ({ hosts: several(() => (below(4) ? plain(`${word('xy', 2)}:8`) : `*${word('xy', 2)}`)) }))
            : way < 2 && below(2)
              ? []
              : several(() => ({ paths: several(() => pattern(`/${word('ab/', 6)}`)) })),
        when: way === 5 ? [{ key: 'destination.port', values: [['80', '81'][below(2)]] }] : [],
      };
    });
    const policies = [{ name: 'p', namespace: 'n', action: Action.ALLOW, rules }];
    const snapshot = buildSnapshot([create(PartSchema, { kind: { case: 'authorization', value: { policies } } })], []);
    for (let i = 0; i < 30; i++) {
      const host = word('xy', 2) + ['', ':8', ':80'][below(3)];
      const http = below(5) > 0;
      const request: AuthorizationRequest = {
        principal: `${scheme()}td/ns/${word('ab', 3)}/sa/${word(WIDE, 2)}`,
        ...{ remoteIp: '10.0.0.1', localIp: '10.0.0.2', destPort: 80 + below(2) },
        ...(http && {
          head: [':method', 'GET', ':scheme', 'http', ':authority', host, ':path', `/${word('ab/', 6)}?q`],
        }),
      };
      const subject = new Subject(request);
      const wanted = snapshot.authorization.allow[0].rules.find((r) => (http ? r.http : r.tcp)?.(subject));
      const got = authorize(snapshot, request);
      assert.equal(got.allow, wanted !== undefined);
      if (wanted) assert.equal(got.ref, wanted.result.ref);
      asked++;
      if (wanted) found++;
    }
  }
  assert.ok(found > asked / 4 && found < (asked * 9) / 10, `${found} of ${asked}, seed ${SEED}`);
});
